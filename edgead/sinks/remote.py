"""Receivers and databases as URIs of the camera loop: mqtt://, webhook:, modbus:// and sqlite:."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import BaseModel, ValidationError

from edgead.errors import SettingsError, tell_invalid
from edgead.sinks.contract import Sink, SinkError
from edgead.sinks.outlet import Outlet
from edgead.sinks.site import open_outlet
from edgead.site.schema import ModbusSink, MqttSink, SinkSection, StoreSection, WebhookSink
from edgead.uri import parse_options, without_credentials

_DRAIN_S = 5.0


class LoopOutlet:
    """An outlet that tells at its end what was not delivered, for the camera loop asks it nothing before."""

    def __init__(self, outlet: Outlet):
        self.uri = outlet.uri
        self.write = outlet.write
        self._outlet = outlet
        self._closed = False

    @property
    def problem(self) -> str | None:
        return self._outlet.status().problem

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._outlet.close(_DRAIN_S)
        status = self._outlet.status()
        lost = status.dropped + status.failed + status.waiting
        if lost:
            reason = f": {status.problem}" if status.problem else ""
            raise SinkError(f"{self.uri}: {lost} verdicts were not delivered{reason}")


def open_remote(uri: str) -> Sink:
    """Open a sink whose URI has one of `REMOTE`'s schemes.

    Raises
    ------
    SinkError
        It cannot be opened; no credentials are in the message.
    """
    scheme = uri.partition(":")[0].lower()
    try:
        return REMOTE[scheme](uri)
    except ValidationError as error:
        raise SinkError(f"{without_credentials(uri)}: {tell_invalid(error.errors())}") from None
    except SettingsError as error:
        raise SinkError(str(error)) from None


def _open_section(section_class: type[BaseModel], **values: Any) -> Sink:
    section: Any = section_class.model_validate(values)
    opened: SinkSection = section
    return LoopOutlet(open_outlet(opened.kind, opened))


def _open_mqtt(uri: str) -> Sink:
    parts, options = _split(uri, {"qos": int, "ca_file": str, "client_id": str})
    topic = unquote(parts.path.lstrip("/"))
    if not topic:
        raise SinkError(f"{without_credentials(uri)}: the topic is missing, such as mqtt://{parts.hostname}/edgead")
    tls = parts.scheme == "mqtts"
    user = {"user": unquote(parts.username), "password": unquote(parts.password or "")} if parts.username else {}
    port = parts.port or (8883 if tls else 1883)
    return _open_section(MqttSink, kind="mqtt", host=parts.hostname, port=port, topic=topic, tls=tls, **user, **options)


def _open_webhook(uri: str) -> Sink:
    # The URL may have a query of its own, so that options and the secret cannot be in it.
    return _open_section(
        WebhookSink, kind="webhook", url=uri.partition(":")[2], secret=os.environ.get("EDGEAD_WEBHOOK_SECRET") or None
    )


def _open_modbus(uri: str) -> Sink:
    parts, options = _split(uri, {"coil": int, "register": int, "unit": int})
    return _open_section(ModbusSink, kind="modbus", host=parts.hostname, port=parts.port or 502, **options)


def _open_sqlite(uri: str) -> Sink:
    from edgead.sinks.store import StoreSink

    folder, _, query = uri.partition(":")[2].partition("?")
    if not folder:
        raise SinkError("sqlite: the folder is missing, such as sqlite:out/evidence")
    try:
        options = parse_options(uri, query, {"evidence": str, "keep_days": float})
    except ValueError as error:
        raise SinkError(str(error)) from None
    return StoreSink(f"sqlite:{folder}", StoreSection.model_validate({"folder": folder, **options}))


def _split(uri: str, known: dict[str, Callable[[str], Any]]) -> tuple[SplitResult, dict[str, Any]]:
    shown = without_credentials(uri)
    try:
        parts = urlsplit(uri)
        options = parse_options(shown, parts.query, known)
        if not parts.hostname or parts.port == 0:
            raise SinkError(f"{shown}: host or port are missing, such as {parts.scheme}://192.168.0.5:1883")
    except ValueError as error:
        # urllib quotes what it cannot read, which may be a password with a raw / in it.
        told = str(error) if str(error).startswith(shown) else "cannot be read as HOST:PORT"
        raise SinkError(told if told.startswith(shown) else f"{shown}: {told}") from None
    return parts, options


REMOTE: dict[str, Callable[[str], Sink]] = {
    "mqtt": _open_mqtt,
    "mqtts": _open_mqtt,
    "webhook": _open_webhook,
    "modbus": _open_modbus,
    "sqlite": _open_sqlite,
}
