"""Engines that run an artifact's network: one seam, `open_runtime`."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from edgead.artifact import ENGINES, Artifact
from edgead.errors import SettingsError

RUNTIMES = ("onnxruntime", "tensorrt")


class Runtime(Protocol):
    """One network on one engine. Not for use from several threads at once."""

    input: np.ndarray
    """The input buffer, uint8 (1, h, w, 3) RGB: write the image here to spare a copy."""

    def run(self, images: np.ndarray) -> dict[str, Any]:
        """Run the network; the arrays returned are overwritten by the next call.

        They are ndarrays; what patches are scored by may be a DeviceArray if the runtime was opened with `on_device`.
        """
        ...

    def close(self) -> None: ...


def open_runtime(
    artifact: Artifact, name: str = "auto", *, threads: int | None = None, on_device: bool = False
) -> Runtime:
    """Open the artifact's network.

    Parameters
    ----------
    artifact : Artifact
    name : {"auto", "onnxruntime", "tensorrt"}
        "auto" is TensorRT where the artifact has an engine for the GPU that is here, otherwise ONNX Runtime.
    threads : int, optional
        Threads of the engine on the CPU; by default those of the kernels (`edgead.kernels.threads()`).
    on_device : bool, optional
        Leave what patches are scored by on the GPU if the network runs there.

    Raises
    ------
    SettingsError
        If there is no such runtime here.
    EdgeadError
        If a graph or an engine that is there may not be used: no other runtime takes its place unasked.
    """
    if name not in ("auto", *RUNTIMES):
        raise SettingsError(f"unknown runtime {name!r}: choose auto or one of {', '.join(RUNTIMES)}")
    if name == "tensorrt" or (name == "auto" and any((artifact.path / ENGINES).glob("*.engine"))):
        from edgead.runtime.tensorrt import TensorRtRuntime

        try:
            return TensorRtRuntime(artifact, on_device=on_device)
        except SettingsError:
            if name != "auto":
                raise
    from edgead.runtime.ort import OrtRuntime

    return OrtRuntime(artifact, threads=threads)
