"""Engines that run an artifact's network: one seam, `open_runtime`."""

from __future__ import annotations

import logging
from importlib.util import find_spec

from edgead.artifact.folder import ENGINES, Artifact, Graph
from edgead.errors import SettingsError
from edgead.runtime.contract import Runtime

RUNTIMES = ("onnxruntime", "openvino", "tensorrt")

logger = logging.getLogger(__name__)

__all__ = ["RUNTIMES", "Runtime", "available_runtimes", "open_runtime"]


def available_runtimes(artifact: Artifact, precision: str | None = None) -> list[str]:
    """Names of the runtimes that open a graph here: those that are installed, TensorRT if there is an engine."""
    installed = [name for name in RUNTIMES if name != "tensorrt" and find_spec(name) is not None]
    return [*installed, "tensorrt"] if _has_engine(artifact, artifact.graph(precision)) else installed


def _has_engine(artifact: Artifact, graph: Graph) -> bool:
    """Tell whether there is an engine for the GPU that is here, stale or not; one that may be planted is none."""
    if not any((artifact.path / ENGINES).glob(f"{graph.precision}.*.engine")):
        return False
    from edgead.runtime.device import find_gpu
    from edgead.runtime.engine import PlantedEngineError, find_engine

    try:
        wanted = find_engine(artifact, graph, find_gpu())
        wanted.check_planted()
        return wanted.path.exists()
    except PlantedEngineError as error:
        logger.warning("%s; the engine is taken for missing", error)
        return False
    except SettingsError:  # no TensorRT, or no GPU
        return False


def open_runtime(
    artifact: Artifact,
    name: str = "auto",
    *,
    precision: str | None = None,
    threads: int | None = None,
    on_device: bool = False,
) -> Runtime:
    """Open one of the artifact's graphs.

    Parameters
    ----------
    artifact : Artifact
    name : {"auto", "onnxruntime", "openvino", "tensorrt"}
        "auto" is TensorRT where the artifact has an engine for the GPU that is here, otherwise ONNX Runtime.
    precision : str, optional
        See `Artifact.graph`.
    threads : int, optional
        Threads of an engine on the CPU; by default those of the kernels (`edgead.kernels.threads()`).
    on_device : bool, optional
        Leave what patches are scored by on the GPU if the network runs there.

    Raises
    ------
    SettingsError
        Unknown runtime, one that does not work here, or a precision that the artifact has no graph of.
    EdgeadError
        A graph or an engine that may not be used: "auto" takes no other in its place.
    """
    if name not in ("auto", *RUNTIMES):
        raise SettingsError(f"unknown runtime {name!r}: choose auto or one of {', '.join(RUNTIMES)}")
    graph = artifact.graph(precision)
    # Imported when it is opened: each engine takes a moment and memory, and all but ONNX Runtime are extras.
    if name == "tensorrt" or (name == "auto" and _has_engine(artifact, graph)):
        from edgead.runtime.tensorrt import TensorRtRuntime

        return TensorRtRuntime(artifact, graph, on_device=on_device)
    if name == "openvino":
        from edgead.runtime.openvino import OpenVinoRuntime

        return OpenVinoRuntime(artifact, graph, threads=threads)
    from edgead.runtime.ort import OrtRuntime

    return OrtRuntime(artifact, graph, threads=threads)
