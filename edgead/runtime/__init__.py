"""Engines that run an artifact's network: one seam, `choose_runtime`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edgead.artifact.folder import ENGINES, Artifact, Graph
from edgead.components.registry import read_options
from edgead.errors import SettingsError
from edgead.runtime.contract import Runtime
from edgead.runtime.registry import RUNTIMES, RuntimeComponent, register

__all__ = [
    "AUTO",
    "RUNTIMES",
    "Runtime",
    "available_runtimes",
    "checked_runtime",
    "choose_runtime",
    "open_runtime",
    "register",
]

AUTO = "auto"
_FALLBACK, _OF_IR = "onnxruntime", "openvino"


def available_runtimes(artifact: Artifact, precision: str | None = None) -> list[str]:
    """Names of the runtimes that open a graph here: those that are installed, TensorRT if there is an engine."""
    graph = artifact.graph(precision)
    return [
        name
        for name, runtime in RUNTIMES.all().items()
        if runtime.precision(graph.precision) == graph.precision and runtime.runs(artifact, graph)
    ]


def checked_runtime(name: str) -> str:
    """Give the name of a runtime as it is, where there is one and its options fit: `auto`, `NAME`, `NAME?option=value`.

    Raises
    ------
    SettingsError
        There is none, and which there are; or an option does not fit.
    """
    if name != AUTO:
        _options(_named(name), name)
    return name


@dataclass(frozen=True, slots=True)
class Chosen:
    """An engine with its options, and the graph that it runs."""

    artifact: Artifact
    runtime: RuntimeComponent
    options: Any
    graph: Graph

    def open(self, *, threads: int | None = None, on_device: bool = False) -> Runtime:
        """Open the graph.

        Parameters
        ----------
        threads : int, optional
            Threads of an engine on the CPU; by default those of the kernels (`edgead.kernels.threads()`).
        on_device : bool, optional
            Leave what patches are scored by on the GPU if the network runs there.

        Raises
        ------
        EdgeadError
            The engine does not work here, or the graph or the engine may not be used: no other takes its place.
        """
        return self.runtime.open(self.artifact, self.graph, self.options, threads=threads, on_device=on_device)


def choose_runtime(artifact: Artifact, name: str = AUTO, precision: str | None = None) -> Chosen:
    """Choose the engine and the graph: not every engine takes every kind of int8.

    Parameters
    ----------
    artifact : Artifact
    name : str
        One of `RUNTIMES`, with options after a `?` where it has some. "auto" is TensorRT where the artifact has an
        engine for the GPU that is here, otherwise ONNX Runtime; OpenVINO for a graph that it alone takes.
    precision : str, optional
        See `Artifact.graph`.

    Raises
    ------
    SettingsError
        Unknown runtime, or a precision that the artifact has no graph of.
    """
    if name != AUTO:
        runtime = _named(name)
        return Chosen(artifact, runtime, _options(runtime, name), runtime.graph(artifact, precision))
    asked = artifact.graph(precision)
    # Where nothing was built for this machine nothing is preferred, and no other engine's module is imported.
    built = (artifact.path / ENGINES).is_dir()
    for runtime in RUNTIMES.builtin().values() if built else ():
        if runtime.preferred and runtime.can_open(artifact, precision):
            graph = runtime.graph(artifact, precision)
            if runtime.runs(artifact, graph):
                return Chosen(artifact, runtime, runtime.options(), graph)
    fallback = _named(_FALLBACK if asked.constants is None else _OF_IR)
    return Chosen(artifact, fallback, fallback.options(), asked)


def open_runtime(
    artifact: Artifact, name: str = AUTO, *, precision: str | None = None, threads: int | None = None
) -> Runtime:
    """Choose an engine and a graph and open it; see `choose_runtime` and `Chosen.open`."""
    return choose_runtime(artifact, name, precision).open(threads=threads)


def _named(name: str) -> RuntimeComponent:
    found = RUNTIMES.named(name.partition("?")[0])
    if found is None:
        raise SettingsError(f"unknown runtime {name!r}: choose auto or one of {', '.join(RUNTIMES.all())}")
    return found


def _options(runtime: RuntimeComponent, name: str) -> Any:
    return read_options(runtime, name.partition("?")[2], f"runtime {runtime.name}")
