"""Handover from ONNX Runtime to TensorRT: ONNX Runtime judges while the engine is built, then TensorRT takes over."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgead.artifact.folder import Artifact
from edgead.artifact.manifest import Manifest
from edgead.detector import Detector
from edgead.errors import EdgeadError
from edgead.runtime.engine import NoEngineError, batch_of_engine
from edgead.runtime.engine_builder import EngineError
from edgead.types import Frame, Verdict

if TYPE_CHECKING:
    from edgead.images.likeness import Misfit

logger = logging.getLogger(__name__)


def load_building(path: Path, *, precision: str | None = None, threads: int | None = None) -> Detector | Succession:
    """Open an artifact on TensorRT; without a usable engine, judge on ONNX Runtime while one is built.

    `precision`, `threads`: arguments of `Detector.load`.
    Raises SettingsError: TensorRT or a GPU is missing.
    """
    try:
        return Detector.load(path, runtime="tensorrt", precision=precision, threads=threads)
    except (NoEngineError, EngineError) as error:
        logger.warning("%s; ONNX Runtime serves while it is built", error)
    first = Detector.load(path, runtime="onnxruntime", precision=precision, threads=threads)
    build = EngineBuild(first.artifact, precision, batch=batch_of_engine(first.artifact, precision))
    return Succession(first, build, lambda: Detector(first.artifact, runtime="tensorrt", precision=precision))


class EngineBuild:
    """Process that runs `edgead engine`, so that its memory and crashes do not affect the camera loop."""

    def __init__(self, artifact: Artifact, precision: str | None, target: str = "current", *, batch: int = 1):
        command = [sys.executable, "-c", "from edgead.cli import main; main()", "engine", str(artifact.path)]
        command += ["--target", target, "--batch", str(batch), "--json"]
        if precision:
            command += ["--precision", precision]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8")

    def wait(self) -> None:
        """Wait for the engine.

        Raises EngineError: the build failed; the message has the command's output.
        """
        _, said = self._process.communicate()
        if self._process.returncode:
            raise EngineError(said.strip().removeprefix("error: ") or f"ended with code {self._process.returncode}")

    def stop(self) -> None:
        """Stop the process if it still runs; the engine file is complete or absent."""
        self._process.terminate()


class Succession:
    """Detector that is replaced by a second one between two frames; has the interface of `Detector`.

    `first`: detector that judges until then.
    `open_second`: opens the second detector, which takes seconds, after `build`; called in a thread.
    """

    def __init__(self, first: Detector, build: EngineBuild, open_second: Callable[[], Detector]):
        self._detector, self._build, self._open_second = first, build, open_second
        self._second: Detector | None = None
        self._thread = threading.Thread(target=self._prepare, name="engine build", daemon=True)
        self._thread.start()

    @property
    def manifest(self) -> Manifest:
        return self._detector.manifest

    def _prepare(self) -> None:
        try:
            self._build.wait()
            self._second = self._open_second()
        except (EdgeadError, RuntimeError, OSError) as error:
            logger.warning("no TensorRT engine, continuing with ONNX Runtime: %s", error)

    def predict(self, image: np.ndarray) -> Verdict:
        """Judge one image like `Detector.predict`."""
        return self.current().predict(image)

    def session(self) -> SuccessionSession:
        """Begin the only stream of frames; the detectors change between two of its frames."""
        return SuccessionSession(self)

    def current(self) -> Detector:
        """Return the detector that judges the next frame."""
        if self._second is not None:
            first, self._detector, self._second = self._detector, self._second, None
            first.close()
            logger.warning("the engine is ready, TensorRT takes over")
        return self._detector

    def advice(self, scores: Sequence[float]) -> str:
        """Return the likely cause of too many rejects, as `Detector.advice`."""
        return self.current().advice(scores)

    def close(self) -> None:
        """Stop building and release both detectors."""
        self._build.stop()
        self._thread.join()
        for detector in (self._detector, self._second):
            if detector is not None:
                detector.close()

    def __enter__(self) -> Succession:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class SuccessionSession:
    """Stream of frames judged by a Succession; has the interface of `edgead.detector.Session`."""

    def __init__(self, succession: Succession):
        self._succession = succession
        self.reset()

    def reset(self) -> None:
        """Forget all earlier frames."""
        self._detector: Detector | None = None

    def step(self, frame: Frame) -> Verdict | None:
        """Judge the next frame; a detector that takes over treats it as the first of a stream."""
        detector = self._succession.current()
        if detector is not self._detector:
            self._detector, self._session = detector, detector.session()
        return self._session.step(frame)

    def shown(self, frame: Frame) -> Frame:
        """Return a judged frame for display and storage; see `Detector.shown`."""
        return self._session.shown(frame)

    def misfit(self, frame: Frame) -> Misfit | None:
        """Compare the size of a judged frame with the golden images; see `Session.misfit`."""
        return self._session.misfit(frame)
