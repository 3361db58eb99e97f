"""What the demo writes and how it ends: a sheet of finds and mistakes, and commands that work as they are printed."""

from __future__ import annotations

import runpy
import shlex
import shutil
import subprocess
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
import pytest
from fakes import make_verdict

from edgead.cli.demo import (
    DemoLine,
    _Scoreboard,
    _write_sheet,
    demo_folder,
    next_steps,
    run_demo,
    steps_text,
    write_site,
)
from edgead.cli.verbs import VERBS
from edgead.errors import SettingsError
from edgead.line.site.load import load_site
from edgead.types import Frame

CHECKOUT = Path(__file__).parents[2]
SIDE = 200


def test_the_sheet_shows_what_was_found_and_every_mistake(tmp_path):
    sheet = tmp_path / "heat_maps.jpg"
    sheet.write_bytes(b"of an earlier run")
    image, mask = np.full((SIDE, SIDE, 3), 90, np.uint8), np.zeros((SIDE, SIDE), bool)
    mask[90:110, 90:110] = True
    truth = {"a": None, "b": "crack", "c": "crack", "d": None}
    source = DemoLine(None, lambda frame: truth[frame.name], lambda frame: mask if truth[frame.name] else None)
    board = _Scoreboard(source)
    assert _write_sheet(board, sheet) == {} and not sheet.exists()
    heights = []
    for name, score in (("a", 0.3), ("b", 1.1), ("c", 0.3), ("d", 1.2)):
        board.see(Frame(image, 0, 0, datetime.now(timezone.utc), "test", name), make_verdict(score))
        heights.append(cv2.imread(str(sheet)).shape[0] if _write_sheet(board, sheet) else 0)
    assert (board.misses, board.false_rejects) == (["crack/c"], ["d"])
    assert heights[0] == 0 < heights[1] < heights[2] == heights[3]  # mistakes are a band of their own
    blue, _, red = cv2.split(cv2.imread(str(sheet)).astype(int))
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
