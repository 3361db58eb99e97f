"""Engines that run an artifact's network; `choose_runtime` is the entry point."""

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
    """List the runtimes that can open a graph on this machine: installed ones, TensorRT only with a built engine."""
    graph = artifact.graph(precision)
    return [
        name
        for name, runtime in RUNTIMES.all().items()
        if runtime.precision(graph.precision) == graph.precision and runtime.runs(artifact, graph)
    ]


def checked_runtime(name: str) -> str:
    """Validate and return the name of a runtime with its options: `auto`, `NAME`, `NAME?option=value`.

    Raises SettingsError: there is no such runtime (lists those there are), or an option is wrong.
    """
    if name != AUTO:
        _options(_named(name), name)
    return name


@dataclass(frozen=True, slots=True)
class ChosenEngine:
    """Chosen engine with its options, and the graph that it will run."""

    artifact: Artifact
    runtime: RuntimeComponent
    options: Any
    graph: Graph

    def open(self, *, threads: int | None = None, on_device: bool = False) -> Runtime:
        """Open the graph.

        `threads`: threads of an engine on the CPU; by default those of the kernels (`edgead.kernels.threads()`).
        `on_device`: leave the output for patch scores on the GPU if the network runs there.
        Raises EdgeadError: the engine does not work here, or the graph or engine file is refused; there is no fallback.
        """
        return self.runtime.open(self.artifact, self.graph, self.options, threads=threads, on_device=on_device)


def choose_runtime(artifact: Artifact, name: str = AUTO, precision: str | None = None) -> ChosenEngine:
    """Choose the engine and its graph, as not every engine takes every kind of int8.

    `name`: one of `RUNTIMES`, with options after a `?`. "auto" is TensorRT if the artifact has an engine for this
        machine's GPU, otherwise ONNX Runtime, or OpenVINO for a graph that only OpenVINO takes.
    `precision`: see `Artifact.graph`.
    Raises SettingsError: the runtime is unknown, or the artifact has no graph of that precision.
    """
    if name != AUTO:
        runtime = _named(name)
        return ChosenEngine(artifact, runtime, _options(runtime, name), runtime.graph(artifact, precision))
    asked = artifact.graph(precision)
    # Without an engine built for this machine no other engine is preferred, and no module of one is imported.
    built = (artifact.path / ENGINES).is_dir()
    for runtime in RUNTIMES.builtin().values() if built else ():
        if runtime.preferred and runtime.can_open(artifact, precision):
            graph = runtime.graph(artifact, precision)
            if runtime.runs(artifact, graph):
                return ChosenEngine(artifact, runtime, runtime.options(), graph)
    fallback = _named(_FALLBACK if asked.constants is None else _OF_IR)
    return ChosenEngine(artifact, fallback, fallback.options(), asked)


def open_runtime(
    artifact: Artifact, name: str = AUTO, *, precision: str | None = None, threads: int | None = None
) -> Runtime:
    """Choose an engine and a graph and open it; see `choose_runtime` and `ChosenEngine.open`."""
    return choose_runtime(artifact, name, precision).open(threads=threads)


def _named(name: str) -> RuntimeComponent:
    found = RUNTIMES.named(name.partition("?")[0])
    if found is None:
        raise SettingsError(f"unknown runtime {name!r}: choose auto or one of {', '.join(RUNTIMES.all())}")
    return found


def _options(runtime: RuntimeComponent, name: str) -> Any:
    return read_options(runtime, name.partition("?")[2], f"runtime {runtime.name}")
