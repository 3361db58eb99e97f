"""Registry of sources: each registers itself with its URI schemes and the options of its URIs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edgead.components.options import Section
from edgead.components.registry import Component, Registry
from edgead.sources.connection import LiveAddress
from edgead.sources.contract import Source
from edgead.sources.live import LiveLimits

Open = Callable[[str, Any, LiveLimits], Source]
Address = Callable[[str, Any, LiveLimits], LiveAddress]


@dataclass(frozen=True, slots=True)
class SourceComponent(Component):
    """Registration of a kind of source, with `open`, or with `address` if it is a camera.

    `open`: function from a URI, its options and `LiveLimits` to the source.
    `address`: function with the same arguments to the `LiveAddress` of a camera. The daemon reads such a camera in a
        separate process, which it kills if it hangs.
    `live`: whether frames come at their own pace without an end, so that a lost source is opened again.
    `on_demand`: whether frames come only when somebody provides them, and wait for the consumer: a pause is then no
        fault.
    `has_query`: whether the part after `?` holds options; otherwise it belongs to the address.
    """

    open: Open | None
    address: Address | None
    live: bool
    has_query: bool
    on_demand: bool = False


_BUILT_IN = (
    "sources.camera sources.csi sources.genicam sources.network synthetic.source sources.paths sources.sent_images "
    "sources.watched"
)
SOURCES: Registry[SourceComponent] = Registry("source", tuple(f"edgead.{name}" for name in _BUILT_IN.split()))


def register(
    name: str,
    options: type[Section],
    open: Open | None = None,
    *,
    schemes: Mapping[str, str],
    address: Address | None = None,
    live: bool = False,
    has_query: bool = True,
    on_demand: bool = False,
) -> None:
    """Register a source; see `SourceComponent`."""
    is_live = live or address is not None
    SOURCES.add(SourceComponent(name, options, schemes, open, address, is_live, has_query, on_demand))
