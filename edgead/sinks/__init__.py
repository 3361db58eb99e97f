"""Where verdicts go: JSON lines, pictures, a video, a window; brokers, URLs, PLCs and databases."""

from __future__ import annotations

from collections.abc import Callable

from edgead.sinks.contract import Sink, SinkError, StopRequested
from edgead.sinks.images import ImagesSink
from edgead.sinks.jsonl import JsonlSink
from edgead.sinks.site import open_daemon_sink, open_outlet
from edgead.sinks.video import VideoSink
from edgead.sinks.window import WindowSink
from edgead.uri import parse_options, without_credentials

__all__ = ["Sink", "SinkError", "StopRequested", "open_daemon_sink", "open_outlet", "open_sink"]


def open_sink(uri: str) -> Sink:
    """Open a sink.

    Parameters
    ----------
    uri : str
        `jsonl:PATH` (`jsonl:-` is standard output), `images:FOLDER?only=reject&format=png`,
        `video:PATH?fps=25`, `window:`, `sqlite:FOLDER?evidence=review`, `mqtt://USER:PASSWORD@HOST:PORT/TOPIC?qos=1`
        (`mqtts://` with TLS), `webhook:URL` or `modbus://HOST:PORT?coil=0&register=0`.

    Raises
    ------
    SinkError
        There is no such sink, or it cannot be opened here.
    """
    scheme, _, rest = uri.partition(":")
    path, _, query = rest.partition("?")
    shown = without_credentials(uri)
    if scheme in _REMOTE and ":" in uri:
        # Its packages are those of the daemon, which a camera loop with files does without.
        from edgead.sinks.remote import open_remote

        return open_remote(uri)
    if scheme not in _SINKS or ":" not in uri:
        known_ones = "jsonl:PATH, images:FOLDER, video:PATH, window:, sqlite:FOLDER, mqtt://, webhook:URL, modbus://"
        raise SinkError(f"{shown}: unknown sink; known are {known_ones}")
    sink, known = _SINKS[scheme]
    try:
        options = parse_options(shown, query, known)
    except ValueError as error:
        raise SinkError(str(error)) from None
    if sink is WindowSink:
        if path:
            raise SinkError(f"{shown}: a window takes no name, write window:")
        return WindowSink()
    if not path:
        raise SinkError(f"{shown}: the path is missing, such as {scheme}:out/{scheme}")
    return sink(path, **options)


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError("must be above 0")
    return number


_REMOTE = ("mqtt", "mqtts", "webhook", "modbus", "sqlite")
# Each sink with its options and what reads them.
_SINKS: dict[str, tuple[Callable[..., Sink], dict[str, Callable]]] = {
    "jsonl": (JsonlSink, {}),
    "images": (ImagesSink, {"only": str, "format": str}),
    "video": (VideoSink, {"fps": _positive}),
    "window": (WindowSink, {}),
}
