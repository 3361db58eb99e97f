"""Registry of sources: each registers itself with its URI schemes and the options of its URIs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edgead.components.options import Section
from edgead.components.registry import Component, Registry
from edgead.sources.connection import LiveAddress
from edgead.sources.contract import Source
from edgead.sources.live import Limits

Open = Callable[[str, Any, Limits], Source]
Address = Callable[[str, Any, Limits], LiveAddress]


@dataclass(frozen=True, slots=True)
class SourceComponent(Component):
    """A source. It has `open`, or, where it is a camera, `address`.

    Attributes
    ----------
    open : callable or None
        Makes the source of its URI, its options and `Limits`.
    address : callable or None
        Likewise gives what may be shown of a camera, and how to connect to it. The daemon reads such a camera in a
        process of its own, which it ends where it hangs.
    live : bool
        Frames come at their own pace, without an end: a source that is lost is opened again.
    on_demand : bool
        Its frames come when somebody gives them, and its taker is waited for: none for long is no fault.
    has_query : bool
        What follows a `?` are options; elsewhere it is a part of an address.
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
