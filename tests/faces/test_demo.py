"""What the demo writes and how it ends: mistakes with their reasons, and commands that work as they are printed."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from fakes import make_verdict

from edgead.cli.demo import demo_folder, next_steps, run_demo, steps_text, write_site
from edgead.cli.demo_mistakes import MAX_SHOWN, Mistake, Mistakes, explain
from edgead.cli.verbs import VERBS
from edgead.errors import SettingsError
from edgead.line.site.load import load_site

CHECKOUT = Path(__file__).parents[2]
SIDE = 200


def judged(score, hottest, *, defect="crack", mask=True, region=None, threshold=1.0, typical=0.5):
    """A mistake whose map is highest at a place x, y of what is looked at; the defect lies around 100, 100."""
    heat = np.zeros((50, 50), np.float32)
    width = SIDE if region is None else region[2]
    heat[hottest[1] * 50 // width, hottest[0] * 50 // width] = 0.5
    verdict = replace(make_verdict(score), anomaly_map=heat, threshold=threshold, map_threshold=0.9, region=region)
    verdict = replace(verdict, typical_score=typical)
    marked = np.zeros((SIDE, SIDE), bool)
    marked[90:110, 90:110] = defect is not None
    image = np.full((SIDE, SIDE, 3), 90, np.uint8)
    return Mistake("frame 3", defect, image, verdict, marked if mask else None)


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (
            judged(0.97, (100, 100)),
            r"Seen, but too weak: .* the score is 94 \(limit 100\). It covers 1 % of",
        ),
        (
            judged(0.97, (20, 20)),
            "Not seen: the heat is highest elsewhere, at 22, 22, with a score of 94 ",
        ),
        (
            judged(0.45, (20, 20), mask=False),
            r"The defect passed with a score of 0 \(limit 100\); nobody marked where it is.",
        ),
        (
            judged(1.04, (100, 60), defect=None),
            r"A good part of score 108 \(limit 100\); its heat is highest at 102, 62. .* 1",
        ),
        (judged(1.04, (2, 60), defect=None), "highest at the border of what is looked at"),
        (judged(1.04, (2, 50), defect=None, region=(50, 50, 100, 100)), "at the border of what is looked at"),
        (judged(1.04, (50, 50), defect=None, region=(50, 50, 100, 100)), "highest at 101, 101"),
        (judged(-3.0, (100, 100), threshold=-1.0, typical=None), r"the score is -3 \(limit -1\)"),
    ],
)
def test_a_mistake_is_explained(mistake, words):
    assert re.search(words, explain(mistake, 0.01))


def test_the_sheet_shows_every_mistake_with_its_truth(tmp_path):
    mistakes = Mistakes()
    sheet = tmp_path / "mistakes.jpg"
    sheet.write_bytes(b"of an earlier run")
    assert not mistakes.write(sheet, 0.01)
    assert not sheet.exists()
    for _ in range(MAX_SHOWN + 1):
        mistakes.add(judged(0.97, (100, 100)))
    assert len(mistakes.missed) == MAX_SHOWN
    mistakes = Mistakes()
    mistakes.add(judged(0.97, (100, 100)))
    assert mistakes.write(sheet, 0.01)
    one = cv2.imread(str(sheet))
    mistakes.add(judged(1.04, (100, 100), defect=None))
    mistakes.add(judged(1.04, (100, 100), defect=None))
    assert mistakes.write(sheet, 0.01)
    three = cv2.imread(str(sheet))
    assert three.shape[1] == 2 * one.shape[1] and three.shape[0] > 1.5 * one.shape[0]
    blue, _, red = cv2.split(one.astype(int))
    assert (blue - red > 100).sum() > 100  # the outline of the truth


def test_the_site_of_the_demo_inspects_its_model(tmp_path):
    site = load_site(write_site(tmp_path))
    assert site.pipelines["line"].model == tmp_path / "model"
    assert site.store.folder == tmp_path / "evidence"
    of_the_checkout = load_site(CHECKOUT / "deploy/site.yaml")
    assert site.cameras == of_the_checkout.cameras


def test_the_next_commands_name_the_environment_and_exist(tmp_path):
    verbs = {verb for listed in VERBS.values() for verb in listed}
    of_line = next_steps(tmp_path / "my demo", tmp_path / "data", tmp_path / "my demo/site.yaml")
    of_own = next_steps(tmp_path, tmp_path / "data", None)
    assert any("http://127.0.0.1:8080" in step.purpose for step in of_line)
    assert not any("daemon" in step.command for step in of_own)
    for step in of_line + of_own:
        program, verb, *_ = shlex.split(step.command)
        assert program == "." and Path(verb).is_file() or (program.endswith("edgead") and verb in verbs)
    text = steps_text({"a.jpg": "what was found", "longer.jpg": "why"}, of_line)
    assert "  a.jpg       what was found\n" in text
    assert f"\n  {of_line[0].command}\n      {of_line[0].purpose}\n" in text


@pytest.mark.skipif(shutil.which("make") is None, reason="THE MAKEFILE IS NOT TESTED: no make")
def test_make_demo_installs_the_daemon_too_and_shows_that_it_does(tmp_path):
    command = ["make", "--dry-run", "demo", f"VENV={tmp_path}/env"]
    planned = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    install = next(line for line in planned.splitlines() if " pip install " in line)
    assert "'.[daemon]'" in install and "--quiet" not in install
    assert planned.index("installing edgead and its packages") < planned.index(" pip install ")


@pytest.mark.parametrize("own", [False, True])
def test_nothing_changes_in_a_folder_that_no_demo_wrote(line_data, tmp_path, own):
    mine = {name: f"my {name}" for name in ("images/1.jpg", "verdicts.jsonl", "site.yaml")}
    for name, content in mine.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    for output in (tmp_path, tmp_path / "site.yaml"):
        with pytest.raises(SettingsError, match="holds what no demo wrote.*--output"):
            run_demo(output, line_data if own else None)
    left = {path.relative_to(tmp_path).as_posix(): path for path in tmp_path.rglob("*") if path.is_file()}
    assert {name: path.read_text() for name, path in left.items()} == mine


def test_a_demo_takes_the_folder_of_an_earlier_one_and_leaves_none_where_it_fails_at_once(tmp_path):
    (tmp_path / "empty").mkdir()
    for output in (tmp_path / "new", tmp_path / "empty"):
        with pytest.raises(OSError, match="at once"), demo_folder(output):
            raise OSError("at once")
        assert not any(output.iterdir())
        for _ in range(2):
            with demo_folder(output):
                (output / "model").mkdir(exist_ok=True)


def test_a_site_file_that_was_edited_stays(tmp_path):
    site = write_site(tmp_path)
    site.write_text("edited")
    assert write_site(tmp_path) == site and site.read_text() == "edited"


@pytest.mark.slow
def test_the_demo_on_own_images_leaves_what_it_says(line_data, tmp_path):
    pytest.importorskip("torch", reason="training needs the workstation's packages")
    from edgead.cli.console import stdout

    report = run_demo(tmp_path, line_data, preset="fast")
    assert report.passed and report.parts == 20
    assert all(Path(path).exists() for path in (*report.look_at, *report.written.values()))
    assert (tmp_path / "mistakes.jpg").exists() == bool(report.misses or report.false_rejects)
    with stdout.capture() as printed:
        stdout.print(report.table())
    assert "defects found" in printed.get()
    assert all(f"\n  {step.command}\n" in report.ending() for step in report.next_steps)


@pytest.mark.slow
def test_the_documentation_shows_what_the_demo_finds(tmp_path):
    """`python docs/screenshots.py heat_maps.jpg` makes it again; scores differ a little between processors."""
    pytest.importorskip("torch", reason="training needs the workstation's packages")
    pytest.importorskip("playwright", reason="docs/screenshots.py drives the browser")
    run_demo(tmp_path)
    first_found = runpy.run_path(str(CHECKOUT / "docs/screenshots.py"))["first_found"]
    here, shown = (
        first_found(cv2.imread(str(tmp_path / "heat_maps.jpg"))),
        cv2.imread(str(CHECKOUT / "docs/heat_maps.jpg")),
    )
    assert here.shape == shown.shape
    assert np.abs(here.astype(int) - shown).mean() < 3
    assert np.abs(np.roll(here, 500, axis=1).astype(int) - shown).mean() > 6  # as if another part were found
