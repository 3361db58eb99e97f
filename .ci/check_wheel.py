"""Tries the edgead that is installed beside this Python, as a device has it: run from where no source folder is.

Every ISA of this machine against numpy; then, without torch, from a camera to a model, and one more lesson. With
`daemon` behind it, which needs that extra, a daemon judges the parts of a camera and ends as it should.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np

import edgead
from edgead import Detector, kernels
from edgead.images.files import write_image
from edgead.synthetic.line import conveyor


def check_kernels() -> None:
    rng = np.random.default_rng(0)
    bank, features = rng.random((3000, 64), dtype=np.float32), rng.random((200, 64), dtype=np.float32)
    index = kernels.NearestPatches(bank)
    distance, rows = index.search(features)
    exact = np.linalg.norm(features[:, None].astype(np.float64) - bank, axis=2)
    assert (rows[:, 0] == exact.argmin(axis=1)).all()
    np.testing.assert_allclose(distance[:, 0], exact.min(axis=1), rtol=1e-6)
    print(f"edgead {edgead.__version__}: {index.backend} agrees with numpy", flush=True)


def edgead_cli(*arguments: str) -> None:
    command = [sys.executable, "-c", "from edgead.cli import main; main()", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def check_commissioning() -> None:
    with tempfile.TemporaryDirectory() as folder:
        model = str(Path(folder) / "model")
        edgead_cli("commission", "synthetic:", "-o", model, "--images", "30")
        with Detector.load(model) as detector:
            scores: dict[bool, list[float]] = {True: [], False: []}
            for image, _, defect in conveyor(7, 60, 0.5):
                scores[defect is not None].append(detector.predict(image).image_score)
        assert np.median(scores[True]) > np.median(scores[False]), scores
        part = Path(folder) / "part.png"
        write_image(part, next(image for image, _, _ in conveyor(8, 1, 0)))
        edgead_cli("teach", model, str(part), "--yes")
        edgead_cli("teach", model, "--undo")
    print("commissioned and taught without torch", flush=True)


def check_daemon() -> None:
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        site = Path(folder) / "site.yaml"
        site.write_text(
            "cameras: {line: {uri: 'synthetic:?rate=20'}}\n"
            "pipelines: {caps: {camera: line, model: model}}\n"
            f"store: {{folder: evidence}}\nhttp: {{host: 127.0.0.1, port: {port}}}\n"
        )
        edgead_cli("commission", "synthetic:", "-o", str(site.with_name("model")), "--images", "30")
        command = [Path(sys.executable).with_name("edgead"), "daemon", "-c", site]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as daemon:
            try:
                end = time.monotonic() + 60
                while judged(port) < 20:
                    assert daemon.poll() is None and time.monotonic() < end, "no 20 parts were judged within 60 s"
                    time.sleep(0.2)
            finally:
                daemon.terminate()
            log = [json.loads(line) for line in daemon.communicate()[1].splitlines()]
        assert daemon.returncode == 0, daemon.returncode
        assert not [line for line in log if line["level"] not in ("debug", "info")], log
    print("a daemon judged", flush=True)


def judged(port: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status", timeout=5) as answer:
            return int(json.load(answer)["pipelines"][0]["judged"])
    except OSError:
        return 0


def main() -> None:
    assert edgead.__file__.startswith(sys.prefix), edgead.__file__
    if sys.argv[1:] == ["kernels"]:
        return check_kernels()
    if sys.argv[1:] == ["daemon"]:
        return check_daemon()
    cpu = Path("/proc/cpuinfo").read_text() if sys.platform == "linux" else ""
    if kernels.available_isas() and " avx2 " in cpu:
        assert "avx2" in kernels.available_isas(), f"AVX2 is not seen: {kernels.available_isas()}"
    assert importlib.util.find_spec("torch") is None, "torch is in the device's environment"
    for isa in kernels.available_isas():
        command = [sys.executable, "-W", "error", __file__, "kernels"]
        subprocess.run(command, check=True, env={**os.environ, "EDGEAD_ISA": isa})
    if not kernels.available_isas():
        check_kernels()  # numpy's, which warn that they are slow
    edgead_cli("--help")
    check_commissioning()


main()
