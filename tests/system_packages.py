"""Programs and libraries of the system that tests use: what is not tested without each, and its package.

As a program it installs those that are missing, where it may: as root, or by a sudo that asks for no password.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Part:
    area: str
    packages: tuple[str, ...]  # of Debian and Ubuntu; "a|b" has one name here and another there
    find: Callable[[], str | None]
    absent: tuple[str, ...] = ()  # releases that have no such package: what cannot be installed is not required


def _program(*names: str) -> Callable[[], str | None]:
    """Find all of them; the path is that of the first."""

    def find() -> str | None:
        path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])  # where a user's PATH has no servers
        found = [shutil.which(name, path=path) for name in names]
        return found[0] if all(found) else None

    return find


def _library(name: str) -> Callable[[], str | None]:
    def find() -> str | None:
        try:
            ctypes.CDLL(name)
        except OSError:
            return None
        return name

    return find


def _file(pattern: str) -> Callable[[], str | None]:
    return lambda: max(map(str, Path("/").glob(pattern)), default=None)


def _gstreamer() -> str | None:
    plugin = _file("usr/lib/*/gstreamer-1.0/libgstvideotestsrc.so")()
    return _program("gst-launch-1.0")() if plugin else None


PARTS = {
    "aravis": Part("GIGE VISION", ("libaravis-0.8-0",), _library("libaravis-0.8.so.0")),
    "chromium": Part("THE PAGE", ("chromium", "fonts-liberation"), _program("chromium")),
    "docker-registry": Part("REGISTRY", ("docker-registry",), _program("docker-registry")),
    "faketime": Part("THE CLOCK SET BACK", ("libfaketime",), _file("usr/lib/*/faketime/libfaketime.so.1")),
    "ffmpeg": Part("STREAMS OVER THE NETWORK", ("ffmpeg",), _program("ffmpeg")),
    "gstreamer": Part("GSTREAMER", ("gstreamer1.0-tools", "gstreamer1.0-plugins-base"), _gstreamer),
    "libonnxruntime": Part(
        "ONNX RUNTIME FROM C++",
        ("libonnxruntime-dev",),
        _file("usr/include/onnxruntime/**/onnxruntime_cxx_api.h"),
        absent=("bookworm",),
    ),
    "mosquitto": Part("MQTT", ("mosquitto",), _program("mosquitto", "mosquitto_passwd")),
    "postgresql": Part("POSTGRESQL", ("postgresql",), _file("usr/lib/postgresql/*/bin/initdb")),
    "promtool": Part("RULES OF PROMETHEUS", ("promtool|prometheus",), _program("promtool")),
    "qemu": Part("CPUS WITHOUT VNNI", ("qemu-user",), _program("qemu-x86_64")),
}


def _has_candidate(package: str) -> bool:
    policy = subprocess.run(["apt-cache", "policy", package], capture_output=True, text=True).stdout
    candidate = re.search(r"^  Candidate: (.+)$", policy, re.MULTILINE)
    # Ubuntu's chromium is no browser but a package that asks for a snap, which needs a running snapd.
    return bool(candidate) and candidate[1] != "(none)" and "snap" not in candidate[1]


@functools.cache
def _name_here(package: str) -> str:
    names = package.split("|")
    if len(names) > 1 and shutil.which("apt-cache"):
        return next(filter(_has_candidate, names), names[0])
    return names[0]


def _release() -> str:
    try:
        return platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    except OSError:
        return ""


def require(name: str) -> str:
    """Return the path of a part; skips the test that asks where it is missing."""
    part = PARTS[name]
    found = part.find()
    if found is None:
        if (release := _release()) in part.absent:
            pytest.skip(f"{release} has no package {' '.join(part.packages)}")
        pytest.skip(f"{part.area} NOT TESTED: apt install {' '.join(map(_name_here, part.packages))}")
    return found


def what_to_install(reasons: list[str]) -> str:
    """One line on the tests that were skipped by `require`, given all reasons of skips; empty where there are none."""
    skipped: dict[str, int] = {}
    for reason in reasons:
        if packages := re.search(r" NOT TESTED: apt install (.+)$", reason):
            skipped[packages[1]] = skipped.get(packages[1], 0) + 1
    if not skipped:
        return ""
    counts = ", ".join(f"{count} {packages.split()[0]}" for packages, count in sorted(skipped.items()))
    return (
        f"tests skipped for lack of packages: {sum(skipped.values())} ({counts}); "
        f"they need: sudo apt install {' '.join(sorted(skipped))}"
    )


def _privileged() -> list[str] | None:
    """What a command of root begins with, or None where this user may not install."""
    if not shutil.which("apt-get"):
        return None
    if os.geteuid() == 0:
        return []
    allowed = shutil.which("sudo") and subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode == 0
    return ["sudo", "-n"] if allowed else None


def main() -> None:
    missing = [part for part in PARTS.values() if part.find() is None and _release() not in part.absent]
    prefix = _privileged()
    if not missing or prefix is None:
        return  # without the right to install, the tests skip and the last line of pytest says what to install
    subprocess.run([*prefix, "apt-get", "update", "-qq"])
    packages = sorted(_name_here(package) for part in missing for package in part.packages)
    known = [package for package in packages if _has_candidate(package)]
    if unknown := sorted(set(packages) - set(known)):
        print(f"no package here, tests will skip: {' '.join(unknown)}", flush=True)
    print(f"installing for the tests: {' '.join(known)}", flush=True)
    install = ["apt-get", "install", "-qq", "--yes", "--no-install-recommends", *known]
    subprocess.run([*prefix, "env", "DEBIAN_FRONTEND=noninteractive", *install], stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
