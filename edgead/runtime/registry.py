"""Registry of engines: each registers its options, how to open it, and whether it can run a graph here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from edgead.artifact.folder import Artifact, Graph
from edgead.components.options import Section
from edgead.components.registry import Component, Registry
from edgead.errors import SettingsError
from edgead.runtime.contract import Runtime


class OpenRuntime(Protocol):
    """Function that opens a graph. `on_device` is for engines on a GPU, `threads` for those on the CPU."""

    def __call__(
        self, artifact: Artifact, graph: Graph, options: Any, *, threads: int | None, on_device: bool
    ) -> Runtime: ...


@dataclass(frozen=True, slots=True)
class RuntimeComponent(Component):
    """Registered engine.

    `runs`: whether it can open a graph of an artifact on this machine; for lists of available engines.
    `precision`: function from a requested precision to the name of the graph that it takes; by default the same.
    `preferred`: whether `auto` prefers it to ONNX Runtime if `runs` is true and the artifact has engines; only for
        edgead's own.
    """

    open: OpenRuntime
    runs: Callable[[Artifact, Graph], bool]
    precision: Callable[[str], str]
    preferred: bool

    def can_open(self, artifact: Artifact, precision: str | None) -> bool:
        """Whether the artifact has a graph of the requested precision that this engine takes."""
        names = artifact.precisions
        asked = self.precision(precision or artifact.manifest.precision) in names
        return asked or (precision is None and self.precision(artifact.manifest.learnt_in) in names)

    def graph(self, artifact: Artifact, precision: str | None = None) -> Graph:
        """Look up the graph that this engine runs for a precision; see `graph_for`."""
        return graph_for(artifact, precision, self.precision)


def graph_for(artifact: Artifact, precision: str | None, name_of: Callable[[str], str]) -> Graph:
    """Look up the graph of a precision, by the name that an engine has for that precision.

    A default int8 graph is for CPUs. An engine that needs another form of int8, which the artifact lacks, runs the
    graph that the model was learnt with, unless int8 was requested.

    Raises SettingsError: the artifact has no such graph, or was learnt in a precision that the engine does not take.
    """
    name = name_of(precision or artifact.manifest.precision)
    learnt_in = artifact.manifest.learnt_in
    if not precision and name not in artifact.precisions and name_of(learnt_in) != learnt_in:
        raise SettingsError(
            f"{artifact.path} was learnt in {learnt_in}, which this engine does not take: learn it again for it, with "
            f"`edgead export {artifact.path} IMAGES --precision fp16`"
        )
    return artifact.graph(name if precision or name in artifact.precisions else learnt_in)


RUNTIMES: Registry[RuntimeComponent] = Registry(
    "runtime", ("edgead.runtime.ort", "edgead.runtime.openvino", "edgead.runtime.tensorrt")
)


def register(
    name: str,
    options: type[Section],
    open: OpenRuntime,
    *,
    runs: Callable[[Artifact, Graph], bool] = lambda artifact, graph: True,
    precision: Callable[[str], str] = lambda name: name,
    preferred: bool = False,
) -> None:
    """Register a runtime; see `RuntimeComponent`."""
    RUNTIMES.add(RuntimeComponent(name, options, {}, open, runs, precision, preferred))
