"""The sinks of a site file: each section makes a sink, with an outlet before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgead.sinks.contract import Sink
from edgead.sinks.outlet import Outlet

if TYPE_CHECKING:
    from edgead.site.schema import SinkSection

_MOST_OF_A_URI = 1000


def open_daemon_sink(name: str, section: SinkSection) -> Sink:
    """Open the sink of a section of the site file. Its `write` may wait for its receiver: see `open_outlet`.

    Raises
    ------
    SinkError, SettingsError
        It cannot be opened. A receiver that is away is no reason: it may come.
    """
    if section.kind == "uri":
        from edgead.sinks import open_sink

        return open_sink(section.uri)
    if section.kind == "mqtt":
        from edgead.sinks.mqtt import MqttSink

        return MqttSink(name, section)
    if section.kind == "webhook":
        from edgead.sinks.webhook import WebhookSink

        return WebhookSink(section)
    from edgead.sinks.modbus import ModbusSink

    return ModbusSink(section)


def open_outlet(name: str, section: SinkSection) -> Outlet:
    """Open the sink of a section behind an outlet with the queue that it asks for.

    A PLC gets the newest verdict alone: an old one would eject the wrong part.
    """
    if section.kind == "mqtt" or section.kind == "webhook":
        most = section.queue.messages
    else:
        most = 1 if section.kind == "modbus" else _MOST_OF_A_URI
    sink = open_daemon_sink(name, section)
    return Outlet(name, sink, most=most, required=section.required, tolerated_s=section.tolerated_s)
