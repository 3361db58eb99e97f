"""Engines that run an artifact's network: one seam, `open_runtime`."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from edgead.artifact import Artifact
from edgead.errors import SettingsError

RUNTIMES = ("onnxruntime",)


class Runtime(Protocol):
    """One network on one engine. Not for use from several threads at once."""

    input: np.ndarray
    """The input buffer, uint8 (1, h, w, 3) RGB: write the image here to spare a copy."""

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run the network; the arrays returned are overwritten by the next call."""
        ...

    def close(self) -> None: ...


def open_runtime(artifact: Artifact, name: str = "auto", *, threads: int | None = None) -> Runtime:
    """Open the artifact's network.

    Parameters
    ----------
    artifact : Artifact
    name : {"auto", "onnxruntime"}
    threads : int, optional
        Threads of the engine; by default those of the kernels (`edgead.kernels.threads()`).
    """
    if name not in ("auto", *RUNTIMES):
        raise SettingsError(f"unknown runtime {name!r}: choose auto or one of {', '.join(RUNTIMES)}")
    from edgead.runtime.ort import OrtRuntime

    return OrtRuntime(artifact, threads=threads)
