"""Sources of frames: cameras, network streams, video files, folders and the built-in line."""

from __future__ import annotations

import re
import threading
from pathlib import Path
from typing import Any, TypeGuard
from urllib.parse import quote, unquote

from edgead.components.options import placed
from edgead.components.registry import read_options
from edgead.components.uri import join_stereo, split_options, split_stereo, without_credentials
from edgead.errors import SettingsError
from edgead.images.files import MAX_MEGAPIXELS
from edgead.process.installation import comes_with
from edgead.sources.connection import LiveAddress
from edgead.sources.contract import Counters, FrameCounter, Source, SourceError
from edgead.sources.line_scan import LineScan, LineScanSource, joined_address, split_line_scan
from edgead.sources.live import LiveLimits, LiveSource
from edgead.sources.registry import SOURCES, SourceComponent, register

__all__ = [
    "SOURCES",
    "Counters",
    "FrameCounter",
    "LiveLimits",
    "Source",
    "SourceError",
    "open_source",
    "register",
    "split_options",
    "without_credentials",
]

# At least two letters, so that the drive letter of a Windows path is no scheme.
_SCHEME = re.compile(r"^([a-z][a-z0-9+]+):")
_CALIBRATION = re.compile(r"((?:^|&)calibration=)([^&]*)")


def open_source(
    uri: str | Path | int,
    *,
    late_after_ms: float | None = None,
    open_timeout_s: float = 5.0,
    read_timeout_s: float = 5.0,
    stop: threading.Event | None = None,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> Source:
    """Open a source of frames.

    `uri`: URI of a registered source, such as `camera:0` (or `0`), `rtsp://...` or
        `synthetic:?seed=1&count=100&defect_rate=0.1`, or a video file, an image, a folder of images, or a glob such as
        `parts/*.png`; `edgead daemon --components` prints all sources. With `lines=1024` among the options, strips are
        joined into frames.
    `late_after_ms`: age from which frames count as late when they are handed over; late frames are still handed over.
        By default no frame is late, as the limit depends on the line.
    `open_timeout_s`, `read_timeout_s`: time limits for a live source to open, and to deliver the next frame.
    `stop`: ends the iteration of a live source, even while it waits for a frame.
    `max_megapixels`: largest frame to accept: files are refused by their header, cameras when they report their size.
    Raises SourceError: the source is unknown or cannot be opened; credentials do not appear in the message.
    """
    text = str(uri)
    limits = LiveLimits(open_timeout_s, read_timeout_s, late_after_ms, stop, max_megapixels)
    if not text:
        raise SourceError("the name of the source is empty")
    component = _component(text)
    if component is None:
        raise _unknown(text)
    if component.address is not None:
        return LiveSource(_address(component, text, limits), limits)
    if component.open is None:
        raise SourceError(f"{component.name}: registered without `open` and `address`, it cannot be opened")
    text, options, line_scan = _split(component, text)
    source = component.open(text, options, limits)
    return source if line_scan is None else LineScanSource(source, line_scan, max_megapixels)


def live_address(uri: str, limits: LiveLimits) -> LiveAddress | None:
    """Find the camera that a URI names; None if it is no camera that OpenCV reads.

    Raises SourceError: this machine has no such camera, or the URI is malformed.
    """
    component = _component(uri)
    if component is None or component.address is None:
        return None
    return _address(component, uri, limits)


def is_live(uri: str) -> bool:
    """Whether a URI names a live source, which gives frames at its own pace without an end; it need not exist."""
    component = _component(uri)
    if _is_stereo(component):
        return all(map(is_live, split_stereo(uri)[:2]))
    return component is not None and component.live


def is_on_demand(uri: str) -> bool:
    """Whether a source delivers frames only when somebody provides them, so that a long silence is no fault."""
    component = _component(uri)
    return component is not None and component.on_demand


def gives_depth(uri: str) -> bool:
    """Whether a source may deliver frames of more than 8 bits a channel: files may; cameras give 8 bits."""
    component = _component(uri)
    return component is not None and component.address is None and component.name != "synthetic"


def has_address(uri: str) -> bool:
    """Whether a URI names a camera that can be read by a separate process."""
    component = _component(uri)
    return component is not None and component.address is not None


def beside(uri: str, folder: Path) -> str:
    """Resolve a relative path in a URI against a folder; return other URIs as they are."""
    component = _component(uri)
    if component is not None and component.name == "watch":
        scheme, _, path = uri.partition(":")
        return f"{scheme}:{placed(path, folder)}"
    if _is_stereo(component):
        left, right, query = split_stereo(uri)
        found = _CALIBRATION.sub(lambda match: f"{match[1]}{quote(str(folder / unquote(match[2])))}", query)
        return join_stereo(beside(left, folder), beside(right, folder), found)
    names_path = component is not None and component.name == "path"
    return str(placed(uri, folder)) if names_path or (folder / uri).exists() else uri


def watched_folder(uri: str) -> Path | None:
    """Return the watched folder of a URI, from which images are taken as they arrive; None for other URIs."""
    component = _component(uri)
    if component is None or component.name != "watch":
        return None
    return Path(uri.partition(":")[2].partition("?")[0])


def check_there(uri: str) -> None:
    """Check that the files or the local camera that a URI names exist; remote sources are not contacted.

    Raises SourceError: they do not exist, or the URI is malformed.
    """
    component = _component(uri)
    if component is None:
        raise _unknown(uri)
    if component.address is not None:
        live_address(uri, LiveLimits())
    elif component.name in ("path", "watch"):
        open_source(uri).close()
    else:
        if _is_stereo(component):
            for one in split_stereo(uri)[:2]:
                check_there(one)
        _split(component, uri)


def _component(text: str) -> SourceComponent | None:
    """Find the component that opens a URI or a path; None for an unknown scheme."""
    if text.isdigit():
        return SOURCES.of_scheme("camera")
    found = _SCHEME.match(text.lower())
    if found is None or Path(text).exists():
        return SOURCES.named("path")
    return SOURCES.of_scheme(found[1])


def _is_stereo(component: SourceComponent | None) -> TypeGuard[SourceComponent]:
    """Whether a component is the stereo source of the package edgead-height, which joins two other sources."""
    return component is not None and component.name == "stereo"


def _address(component: SourceComponent, text: str, limits: LiveLimits) -> LiveAddress:
    assert component.address is not None
    text, options, line_scan = _split(component, text)
    address = component.address(text, options, limits)
    return address if line_scan is None else joined_address(address, line_scan, limits.max_megapixels)


def _split(component: SourceComponent, text: str) -> tuple[str, Any, LineScan | None]:
    """Parse a URI: return it without the options of its line scan, its own options, and the line scan or None."""
    shown, line_scan = without_credentials(text), None
    if _is_stereo(component):
        query = split_stereo(text)[2]
    else:
        if component.has_query or component.name == "path":  # otherwise the query belongs to the address
            text, line_scan = split_line_scan(text, shown)
        query = text.partition("?")[2] if component.has_query else ""
    if line_scan is not None and component.on_demand:
        raise SourceError(f"{shown}: each image that is sent gets its verdict, none are joined: leave `lines` out")
    try:
        return text, read_options(component, query, shown), line_scan
    except SettingsError as error:
        raise SourceError(str(error)) from None


def _unknown(text: str) -> SourceError:
    shown, scheme = without_credentials(text), text.lower().partition(":")[0]
    if missing := comes_with("edgead.sources", scheme):
        return SourceError(missing)
    # In admin:secret@camera/1 the apparent scheme is the user's name.
    problem = f"unknown scheme {scheme!r}" if shown.lower().startswith(f"{scheme}:") else "no scheme"
    meant = f"; did you mean {rest}?" if (rest := text.partition(":")[2]) and Path(rest).exists() else ""
    known = f"known are {SOURCES.examples()}, and paths of videos, images and folders"
    return SourceError(f"{shown}: {problem}; {known}{meant}")
