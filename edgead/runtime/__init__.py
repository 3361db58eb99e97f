"""Engines that run an artifact's network: one seam, `open_runtime`."""

from __future__ import annotations

from importlib.util import find_spec

from edgead.artifact import Artifact
from edgead.errors import SettingsError
from edgead.runtime.contract import Runtime

RUNTIMES = ("onnxruntime", "openvino")

__all__ = ["RUNTIMES", "Runtime", "available_runtimes", "open_runtime"]


def available_runtimes() -> list[str]:
    """Names of the runtimes whose package is installed."""
    return [name for name in RUNTIMES if find_spec(name) is not None]


def open_runtime(
    artifact: Artifact, name: str = "auto", *, precision: str | None = None, threads: int | None = None
) -> Runtime:
    """Open one of the artifact's graphs.

    Parameters
    ----------
    artifact : Artifact
    name : {"auto", "onnxruntime", "openvino"}
        "auto" is ONNX Runtime.
    precision : str, optional
        See `Artifact.graph`.
    threads : int, optional
        Threads of the engine; by default those of the kernels (`edgead.kernels.threads()`).

    Raises
    ------
    SettingsError
        Unknown runtime, one that is not installed, or a precision that the artifact has no graph of.
    """
    if name not in ("auto", *RUNTIMES):
        raise SettingsError(f"unknown runtime {name!r}: choose auto or one of {', '.join(RUNTIMES)}")
    graph = artifact.graph(precision)
    # Imported when it is opened: each engine takes a moment and memory, and OpenVINO is an extra.
    if name == "openvino":
        from edgead.runtime.openvino import OpenVinoRuntime

        return OpenVinoRuntime(artifact, graph, threads=threads)
    from edgead.runtime.ort import OrtRuntime

    return OrtRuntime(artifact, graph, threads=threads)
