"""A full disk: every verb that writes reports which path, why and what to do, and leaves nothing half-written."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from fakes import full_disk

from edgead.cli import main
from edgead.files.atomic import write_whole
from edgead.files.disk import writing

pytest.importorskip("torch", reason="training needs the workstation's packages")

SPARE = 8192  # for the folder of a draft, so that what is in it does not fit
OF_DRAFTS = ("train", "train again", "export", "teach", "commission", "demo")
SMALL = ["--preset", "fast", "--image-size", "96", "--memory-bank-size", "300"]
VERBS = {
    "train": ["train", "{data}", "-o", "{disk}/new", *SMALL],
    "train again": ["train", "{data}", "-o", "{disk}/model", *SMALL],
    "export": ["export", "{disk}/model", "--precision", "fp32"],
    "teach": ["teach", "{disk}/model", "{data}/test/good", "--yes"],
    "calibrate": ["calibrate", "{disk}/model", "--reject", "0.9", "--review", "0.8", "--yes", "--reason", "x"],
    "eval": ["eval", "{model}", "{data}", "--sheet", "{disk}/sheet.png"],
    "report": ["report", "{model}", "{data}", "-o", "{disk}/page.html"],
    "predict": ["predict", "{model}", "{data}/test/good/000.jpg", "--heat-maps", "{disk}/maps"],
    "predict --csv": ["predict", "{model}", "{data}/test/good/000.jpg", "--csv", "{disk}/table.csv"],
    "profile --samples": ["profile", "{model}", "-n", "5", "--warmup", "1", "--samples", "{disk}/times.csv"],
    "stream": ["stream", "{model}", "synthetic:?count=3", "--sink", "images:{disk}/images"],
    "commission": ["commission", "synthetic:", "-o", "{disk}/new", "--images", "40"],
    "demo": ["demo", "-o", "{disk}/demo"],
}


_VERBS = [pytest.param(verb, marks=pytest.mark.slow if verb in ("train", "train again") else ()) for verb in VERBS]


@pytest.mark.parametrize("verb", _VERBS)
def test_is_reported_with_the_path(verb, trained_model, line_data, tmp_path, monkeypatch, capsys):
    with full_disk(tmp_path, size_kib=24 * 1024) as disk:
        if "{disk}/model" in " ".join(VERBS[verb]):
            shutil.copytree(trained_model, disk / "model")
        before = fill(disk, spare=SPARE if verb in OF_DRAFTS else 0)
        arguments = [word.format(data=line_data, model=trained_model, disk=disk) for word in VERBS[verb]]
        monkeypatch.setattr(sys, "argv", ["edgead", *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        said = " ".join(capsys.readouterr().err.split())
        assert end.value.code != 0 and "No space left on device; free some space or choose another disk" in said
        assert f" {disk}/" in said
        assert sorted(path for path in disk.rglob("*") if path.is_file()) == before


def fill(disk: Path, spare: int = 0) -> list[Path]:
    """Leave so many bytes; gives the files that are there then."""
    try:
        with open(disk / "filler", "wb", buffering=0) as filler:
            while filler.write(bytes(4096)):
                pass
    except OSError:
        os.truncate(disk / "filler", (disk / "filler").stat().st_size - spare)
    return sorted(path for path in disk.rglob("*") if path.is_file())


def test_what_else_is_wrong_passes_as_it_is(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path / "folder", b"x")
    with pytest.raises(FileNotFoundError, match="missing"), writing(tmp_path):
        (tmp_path / "missing").read_bytes()


def test_the_errors_that_name_no_reason_are_understood(tmp_path, small_disk):
    fill(small_disk)
    with pytest.raises(OSError, match="No space left on device: .*/wanted"), writing(tmp_path / "wanted"):
        np.save(small_disk / "array.npy", np.zeros(10_000))
    source = tmp_path / "tree"
    source.mkdir()
    (source / "file").write_bytes(bytes(5000))
    with pytest.raises(OSError, match="No space left on device: .*/wanted"), writing(tmp_path / "wanted"):
        shutil.copytree(source, small_disk / "tree")
