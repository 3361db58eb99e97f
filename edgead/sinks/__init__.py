"""Receivers of verdicts: JSON lines, images, a video, a window; brokers, URLs, PLCs and databases."""

from __future__ import annotations

from edgead.errors import SettingsError
from edgead.sinks.contract import BaseSink, Sink, SinkError, StopRequested
from edgead.sinks.options import SinkOptions, read_host, read_path
from edgead.sinks.queued import QueuedInLoop, QueuedSink
from edgead.sinks.registry import SINKS, register
from edgead.sinks.uri import read_uri

__all__ = [
    "SINKS",
    "BaseSink",
    "Sink",
    "SinkError",
    "SinkOptions",
    "StopRequested",
    "open_queued",
    "open_sink",
    "read_host",
    "read_path",
    "register",
]


def open_sink(uri: str) -> Sink:
    """Open a sink.

    `uri`: URI of a registered sink, such as `jsonl:PATH` (`jsonl:-` is standard output),
        `images:FOLDER?only=reject&format=png`, `mqtt://USER:PASSWORD@HOST:PORT/TOPIC?qos=1` or `webhook:URL`; `edgead
        daemon --components` prints all sinks.
    Raises SinkError: there is no such sink, or it cannot be opened on this device.
    """
    component, options = read_uri(uri)
    try:
        if options.queued:
            return QueuedInLoop(open_queued(component.name, options))
        return component.open(component.name, options)
    except SettingsError as error:
        raise SinkError(str(error)) from None


def open_queued(name: str, options: SinkOptions) -> QueuedSink:
    """Open the sink of a section of the site file, with a queue as long as its options say.

    Raises SinkError, SettingsError: the sink cannot be opened. It is no error if the receiver does not answer yet.
    """
    component = SINKS.named(options.kind)
    if component is None:
        raise SettingsError(f"unknown sink {options.kind!r}: known are {', '.join(SINKS.all())}")
    sink = component.open(name, options)
    return QueuedSink(name, sink, most=options.most_waiting, required=options.required, tolerated_s=options.tolerated_s)
