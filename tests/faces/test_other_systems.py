"""Windows and macOS: training, evaluation and prediction need nothing that only POSIX has."""

from __future__ import annotations

import os
import subprocess
import sys

# What only POSIX or only Linux has: modules, and names of modules that are everywhere.
HIDE = """
import asyncio, sys, os, signal, socket, mmap, select, subprocess
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name in {"fcntl", "resource", "pwd", "grp", "termios", "syslog", "edgead._native"}:
            raise ModuleNotFoundError(f"{name} is hidden", name=name)
sys.meta_path.insert(0, Refuse())
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules.pop(name, None)
GONE = {
    os: "geteuid getuid getpgrp killpg memfd_create pread sched_getaffinity sched_setaffinity sched_getscheduler "
        "sched_setscheduler sched_get_priority_min sched_get_priority_max sched_param SCHED_FIFO O_DIRECTORY O_CLOEXEC "
        "O_NOFOLLOW O_NONBLOCK sysconf statvfs getloadavg",
    signal: "SIGHUP SIGALRM SIGKILL SIGUSR1 setitimer ITIMER_REAL pthread_sigmask",
    socket: "AF_UNIX SOCK_CLOEXEC send_fds recv_fds MSG_DONTWAIT",
}
for module, names in GONE.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
"""
ENTRANCES = (
    "edgead",
    "edgead.detector",
    "edgead.cli",
    "edgead.workstation.training",
    "edgead.report",
    "edgead.stream",
    "edgead.sources",
)


def hidden(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", HIDE + code, *arguments], capture_output=True, text=True)


def test_the_entrances_import():
    result = hidden(f"import {', '.join(ENTRANCES)}")
    assert result.returncode == 0, result.stderr


def test_a_model_predicts(trained_model):
    image = next((trained_model / "golden").glob("*.png"))
    result = hidden(
        "from edgead.cli import main; main()", "predict", os.fspath(trained_model), os.fspath(image), "--json"
    )
    assert result.returncode in (0, 1), result.stderr
    assert '"image_score"' in result.stdout


def test_what_only_posix_can_do_says_so(tmp_path):
    site = tmp_path / "site.yaml"
    site.write_text("cameras: {}\npipelines: {}\n")
    result = hidden("from edgead.cli import main; main()", "daemon", "-c", os.fspath(site))
    assert result.returncode == 2 and "needs Linux" in result.stderr, result.stderr
    assert "Traceback" not in result.stderr
