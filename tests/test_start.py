"""The way in, question by question: what is asked, what is run, and that nothing is written over."""

from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from command_line import Ended, run_here

from edgead.cli import start
from edgead.site.load import load_site


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def answered(monkeypatch, tmp_path):
    """Run `edgead start` in an empty folder with answers, and note the verbs that it would run."""
    monkeypatch.chdir(tmp_path)
    ran: list[list[str]] = []

    def note(*words: str) -> None:
        ran.append(list(words))

    monkeypatch.setattr(start, "_run", note)

    def run(*answers: str) -> tuple[Ended, list[list[str]]]:
        monkeypatch.setattr(sys, "stdin", Terminal("".join(f"{answer}\n" for answer in answers)))
        return run_here("start"), ran

    return run


def test_from_a_folder_to_a_line(answered, line_data, tmp_path):
    ended, ran = answered("nowhere", str(line_data), "", "camera:0", "n")
    assert ended.returncode == 0, ended.stderr
    assert "nowhere: no such folder" in ended.stderr and "good images" in ended.stdout
    assert ran == [
        ["train", str(line_data), "-o", "model"],
        ["eval", "model", str(line_data), "--sheet", "mistakes.jpg"],
    ]
    assert "edgead daemon -c site.yaml" in ended.stdout
    assert load_site(tmp_path / "site.yaml").cameras["line"].uri == "camera:0"


def test_what_is_there_is_not_written_over(answered, line_data, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "site.yaml").write_text("kept")
    plain = line_data / "train" / "good"
    ended, ran = answered(str(plain), "model", "model-2", str(plain), "camera:0", "y")
    assert ended.returncode == 0, ended.stderr
    assert "model is there already" in ended.stderr
    assert ran == [
        ["train", str(plain), "-o", "model-2"],
        ["predict", "model-2", str(plain), "--heat-maps", "heat_maps"],
        ["daemon", "-c", "site-2.yaml"],
    ]
    assert (tmp_path / "site.yaml").read_text() == "kept"
    assert yaml.safe_load((tmp_path / "site-2.yaml").read_text())["pipelines"]["line"]["model"] == "model-2"


def test_from_a_camera_without_a_workstation(answered):
    source = "synthetic:?seed=1&count=200"
    ended, ran = answered("rtspp://x", source, "caps", "n")
    assert ended.returncode == 0 and "rtspp" in ended.stderr
    assert ran == [["commission", source, "-o", "caps"]]


def test_enter_alone_is_the_built_in_line(answered):
    assert answered("")[1] == [["demo", "-o", "demo"]]


def test_nobody_can_be_asked(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    ended = run_here("start")
    assert ended.returncode == 2 and "edgead --help" in ended.stderr


def test_edgead_alone_on_a_terminal_asks(tmp_path):
    here, there = pty.openpty()
    command = [sys.executable, "-c", "from edgead.cli import main; main()"]
    with subprocess.Popen(command, stdin=there, stdout=there, stderr=there, cwd=tmp_path, close_fds=True) as process:
        os.close(there)
        said = b""
        while b"good images" not in said:
            said += os.read(here, 1024)
        os.write(here, b"\x04")  # the end of what is typed
        assert process.wait(60) != 0
    os.close(here)
    assert list(Path(tmp_path).iterdir()) == []


def test_without_the_workstations_packages_it_says_so_first_and_asks_for_a_camera(answered, line_data, monkeypatch):
    monkeypatch.setattr(start, "find_spec", lambda name: None if name == "onnx" else object())
    ended, ran = answered(str(line_data), "synthetic:", "", "n")
    assert ended.returncode == 0, ended.stderr
    first = " ".join(ended.stderr.split())
    assert first.startswith("onnx: missing, so nothing is trained") and "pip install" in first
    assert "`edgead studio`" in first and "`edgead commission camera:0 -o model`" in first
    assert ended.stdout.startswith("A camera") and first.count("onnx: missing") == 2  # a folder is refused at once
    assert ran == [["commission", "synthetic:", "-o", "model"]]
