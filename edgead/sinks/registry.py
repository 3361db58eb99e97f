"""Registry of sinks: each registers itself with its options and its URI schemes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edgead.components.registry import Component, Registry, check_kind
from edgead.sinks.contract import BaseSink
from edgead.sinks.options import SinkOptions

Open = Callable[[str, Any], BaseSink]
ReadUri = Callable[[str], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class SinkComponent(Component):
    """A sink.

    `open`: function that makes the sink from its name in the site file and its options; raises SinkError or
        SettingsError.
    `read_uri`: function that makes the options' values from a URI with one of `schemes`; its errors quote nothing of
        the URI.
    """

    open: Open
    read_uri: ReadUri | None


_BUILT_IN = (
    "sinks.jsonl sinks.images sinks.video sinks.window line.evidence.sink sinks.mqtt sinks.webhook sinks.modbus "
    "sinks.uri"
)
SINKS: Registry[SinkComponent] = Registry("sink", tuple(f"edgead.{name}" for name in _BUILT_IN.split()))


def register(
    name: str,
    options: type[SinkOptions],
    open: Open,
    *,
    schemes: Mapping[str, str] | None = None,
    read_uri: ReadUri | None = None,
) -> None:
    """Register a sink; `name` is its `kind:` in the site file. See `SinkComponent`.

    Raises SettingsError: the name or a scheme is taken, or the options have no `kind: Literal[name]`.
    """
    check_kind(name, options)
    SINKS.add(SinkComponent(name, options, schemes or {}, open, read_uri))
