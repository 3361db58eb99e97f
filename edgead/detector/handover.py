"""Serving beside building: ONNX Runtime judges until the TensorRT engine is ready, then TensorRT does."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable
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
    """Open an artifact on TensorRT, and where it has no engine that may be used, have one built meanwhile.

    Parameters
    ----------
    path : Path
    precision, threads : optional
        As for `Detector.load`.

    Raises
    ------
    SettingsError
        If TensorRT or a GPU is missing.
    """
    try:
        return Detector.load(path, runtime="tensorrt", precision=precision, threads=threads)
    except (NoEngineError, EngineError) as error:
        logger.warning("%s; ONNX Runtime serves while it is built", error)
    first = Detector.load(path, runtime="onnxruntime", precision=precision, threads=threads)
    build = EngineBuild(first.artifact, precision, batch=batch_of_engine(first.artifact, precision))
    return Succession(first, build, lambda: Detector(first.artifact, runtime="tensorrt", precision=precision))


class EngineBuild:
    """`edgead engine` in a process of its own: neither its memory nor its faults are the camera loop's."""

    def __init__(self, artifact: Artifact, precision: str | None, target: str = "current", *, batch: int = 1):
        command = [sys.executable, "-c", "from edgead.cli import main; main()", "engine", str(artifact.path)]
        command += ["--target", target, "--batch", str(batch), "--json"]
        if precision:
            command += ["--precision", precision]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8")

    def wait(self) -> None:
        """Wait for the engine.

        Raises
        ------
        EngineError
            If there is none, with what the command said.
        """
        _, said = self._process.communicate()
        if self._process.returncode:
            raise EngineError(said.strip().removeprefix("error: ") or f"ended with code {self._process.returncode}")

    def stop(self) -> None:
        """End it, if it still runs; the engine is then written whole or not at all."""
        self._process.terminate()


class Succession:
    """A detector that another one takes over from between two frames; used as a Detector is.

    Parameters
    ----------
    first : Detector
        Judges until then.
    build : EngineBuild
    open_second : callable
        Opens the other detector, which takes seconds, once `build` is done; called in a thread.
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
        """Judge one image, as `Detector.predict`."""
        return self.current().predict(image)

    def session(self) -> SuccessionSession:
        """Begin the stream of frames; there is one, as the detectors change between two of its frames."""
        return SuccessionSession(self)

    def current(self) -> Detector:
        """Give the detector that judges the next frame."""
        if self._second is not None:
            first, self._detector, self._second = self._detector, self._second, None
            first.close()
            logger.warning("the engine is ready, TensorRT takes over")
        return self._detector

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
    """A stream of frames before a Succession; used as `edgead.detector.Session` is."""

    def __init__(self, succession: Succession):
        self._succession = succession
        self.reset()

    def reset(self) -> None:
        """Forget every frame."""
        self._detector: Detector | None = None

    def step(self, frame: Frame) -> Verdict | None:
        """Judge the next frame; the detector that takes over begins with it as if it were the first."""
        detector = self._succession.current()
        if detector is not self._detector:
            self._detector, self._session = detector, detector.session()
        return self._session.step(frame)

    def shown(self, frame: Frame) -> Frame:
        """Give a frame that was judged as it is drawn and kept; see `Detector.shown`."""
        return self._session.shown(frame)

    def misfit(self, frame: Frame) -> Misfit | None:
        """In what a frame that was judged differs from what was learnt; see `Session.misfit`."""
        return self._session.misfit(frame)
