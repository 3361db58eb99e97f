"""What `make test` does where programs of the system are missing: it installs them, or counts what was skipped."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import system_packages
from system_packages import PARTS, require, what_to_install

ROOT = Path(__file__).parents[2]
# Debian 12 has promtool in the package prometheus, and Ubuntu's chromium is none.
APT_CACHE = """#!/bin/sh
case $2 in
    promtool) ;;
    chromium) printf '%s:\\n  Candidate: 2:1snap1-0ubuntu2\\n' "$2" ;;
    fonts-liberation) printf '%s:\\n  Candidate: (none)\\n' "$2" ;;
    *) printf '%s:\\n  Candidate: 1.0-1\\n' "$2" ;;
esac
"""


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """A machine with apt alone, which says what it was asked for."""
    (tmp_path / "apt-cache").write_text(APT_CACHE)
    (tmp_path / "apt-get").write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    (tmp_path / "env").write_text('#!/bin/sh\nshift\nexec "$@"\n')
    for file in tmp_path.iterdir():
        file.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = {name: PARTS[name] for name in ("chromium", "promtool", "ffmpeg")}
    monkeypatch.setattr(system_packages, "PARTS", missing)
    system_packages._name_here.cache_clear()
    yield tmp_path
    system_packages._name_here.cache_clear()


def test_root_gets_what_there_is(bare, monkeypatch, capfd):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    system_packages.main()
    assert (bare / "asked").read_text().splitlines() == [
        "update -qq",
        "install -qq --yes --no-install-recommends ffmpeg prometheus",
    ]
    said = [
        "no package here, tests will skip: chromium fonts-liberation",
        "installing for the tests: ffmpeg prometheus",
    ]
    assert capfd.readouterr().out.splitlines() == said


def test_others_get_a_skip_that_names_the_package(bare, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    system_packages.main()
    assert not (bare / "asked").exists()
    with pytest.raises(pytest.skip.Exception, match="^RULES OF PROMETHEUS NOT TESTED: apt install prometheus$"):
        require("promtool")


def test_what_a_release_does_not_have_is_not_required(bare, monkeypatch):
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"VERSION_CODENAME": "bookworm"})
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    part = replace(PARTS["libonnxruntime"], find=lambda: None)
    monkeypatch.setattr(system_packages, "PARTS", {"libonnxruntime": part})
    system_packages.main()
    assert not (bare / "asked").exists()
    with pytest.raises(pytest.skip.Exception, match="^bookworm has no package libonnxruntime-dev$"):
        require("libonnxruntime")


def test_one_line_says_what_to_install():
    ffmpeg, page = "A NOT TESTED: apt install ffmpeg", "THE PAGE NOT TESTED: apt install chromium fonts-liberation"
    assert what_to_install([ffmpeg, page, ffmpeg, "CUDA KERNELS NOT TESTED: no GPU"]) == (
        "tests skipped for lack of packages: 3 (1 chromium, 2 ffmpeg); they need: "
        "sudo apt install chromium fonts-liberation ffmpeg"
    )
    assert what_to_install(["MQTT NOT TESTED: pip install 'edgead[daemon]'"]) == ""


@pytest.mark.parametrize("required", ["", "all"])
def test_the_last_line_and_what_is_required(required, tmp_path):
    pytest_quietly = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command = [*pytest_quietly, "tests/camera/test_csi.py", "-k", "is_quoted"]
    environment = {**os.environ, "PATH": str(tmp_path), "EDGEAD_REQUIRE": required}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    packages = "gstreamer1.0-tools gstreamer1.0-plugins-base"
    if required:
        assert done.returncode == 1
        assert f"EDGEAD_REQUIRE=all: Skipped: GSTREAMER NOT TESTED: apt install {packages}" in done.stdout
    else:
        assert done.returncode == 0
        assert done.stdout.splitlines()[-1] == (
            f"tests skipped for lack of packages: 1 (1 gstreamer1.0-tools); they need: sudo apt install {packages}"
        )
