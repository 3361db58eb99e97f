"""Verbs `fleet status` and `fleet promote`: list the devices that report to a broker, and move tags."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote, urlsplit

import typer
from pydantic import ValidationError

from edgead.artifact.oci.push import move_tag, tag_digest
from edgead.artifact.oci.reference import Reference
from edgead.cli.app import Json, ListingApp, app, print_report
from edgead.cli.console import facts_table, stderr
from edgead.components.uri import origin
from edgead.errors import SettingsError, tell_invalid
from edgead.plant.mqtt.options import BrokerOptions

if TYPE_CHECKING:
    from rich.table import Table

    from edgead.line.daemon.fleet.devices import FleetDevice

fleet = ListingApp(
    no_args_is_help=True, help="List the devices that report to a broker, and move the tags that they follow."
)
app.add_typer(fleet, name="fleet")

Broker = Annotated[
    str,
    typer.Option(help="MQTT broker: mqtt://USER@HOST:PORT, or mqtts://; EDGEAD_BROKER_PASSWORD holds the password."),
]
Topic = Annotated[str, typer.Option(help="MQTT topic: `topic` in the section `fleet` of the devices' site files.")]


@fleet.command()
def status(broker: Broker, topic: Topic = "edgead/fleet", json: Json = False) -> None:
    """List the devices with their models and states; exit 1 when a device is offline, in fault, or refuses a model."""
    from edgead.line.daemon.fleet.devices import Devices

    with Devices(_broker(broker), topic) as devices:
        found = devices.settled()
    now_s = time.monotonic()
    print_report({"devices": [_record(device, now_s) for device in found]}, json, lambda: _table(found, now_s))
    if not all(_well(device, now_s) for device in found):
        raise typer.Exit(1)


@fleet.command()
def promote(
    model: Annotated[str, typer.Argument(help="Name of the model in the registry: oci://HOST/NAME, without a tag.")],
    source: Annotated[str, typer.Option("--from", help="Tag that names the model now.")],
    to: Annotated[str, typer.Option(help="Tag to move to the same model.")],
    when_healthy: Annotated[
        int,
        typer.Option(min=0, help="Wait until this many devices that follow the tag --from judge by its model."),
    ] = 0,
    for_s: Annotated[
        float,
        typer.Option(min=0, help="With --when-healthy: seconds for which the devices must judge without interruption."),
    ] = 300.0,
    within_s: Annotated[
        float, typer.Option(min=0, help="With --when-healthy: give up after this many seconds.")
    ] = 3600.0,
    broker: Annotated[str | None, typer.Option(help="With --when-healthy: MQTT broker, as for `fleet status`.")] = None,
    topic: Topic = "edgead/fleet",
    json: Json = False,
) -> None:
    """Move a tag to the model of another tag, once the devices of the other tag are healthy; exit 1 if they are not."""
    repository = Reference.read(model)
    first, second = repository.tagged(source), repository.tagged(to)
    digest = tag_digest(first)
    if when_healthy:
        if broker is None:
            raise SettingsError("--when-healthy asks the devices: name their --broker")
        _wait((_broker(broker), topic), str(first), digest, (when_healthy, for_s, within_s))
    # By its digest: the first tag may have moved meanwhile, to a model that no device has tried.
    move_tag(repository.at(digest), second)
    report = {"from": str(first), "to": str(second), "digest": digest}
    print_report(report, json, lambda: facts_table("moved", report))


def _wait(place: tuple[BrokerOptions, str], source: str, digest: str, wanted: tuple[int, float, float]) -> None:
    from edgead.line.daemon.fleet.devices import Devices
    from edgead.line.daemon.fleet.gate import CanaryGate

    healthy, for_s, within_s = wanted
    gate, said = CanaryGate(source, digest, healthy=healthy, for_s=for_s), ""
    end_s = time.monotonic() + within_s
    with Devices(*place) as devices:
        devices.settled()
        while True:
            opinion = gate.ask(devices.all(), time.monotonic())
            if opinion.answer == "go":
                return
            if opinion.answer == "stop" or time.monotonic() >= end_s:
                what = "a device refuses it" if opinion.answer == "stop" else f"not within {within_s:g} s"
                stderr.print(f"error: not promoted, {what}: {opinion.reason}", style="red", soft_wrap=True)
                raise typer.Exit(1)
            if stderr.is_terminal and opinion.reason != said:
                stderr.print(opinion.reason, soft_wrap=True)
            said = opinion.reason
            time.sleep(0.5)


def _broker(uri: str) -> BrokerOptions:
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError:
        raise SettingsError("--broker is no URI: mqtt://HOST:1883, for example") from None
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.path not in ("", "/"):
        raise SettingsError(f"--broker {origin(uri)!r}: expected mqtt://HOST:1883 or mqtts://HOST:8883")
    tls = parts.scheme == "mqtts"
    secret = unquote(parts.password) if parts.password else os.environ.get("EDGEAD_BROKER_PASSWORD")
    given = {"user": unquote(parts.username), "password": secret} if parts.username else {}
    try:
        return BrokerOptions.model_validate(
            {"host": parts.hostname, "port": port or (8883 if tls else 1883), "tls": tls, **given}
        )
    except ValidationError as error:
        raise SettingsError(f"--broker: {tell_invalid(error.errors())}") from None


def _well(device: FleetDevice, now_s: float) -> bool:
    pipelines = device.report.pipelines.values() if device.report else ()
    return device.there(now_s) and all(one.state != "fault" and one.following != "refused" for one in pipelines)


def _record(device: FleetDevice, now_s: float) -> dict[str, Any]:
    report = device.report.model_dump(mode="json", by_alias=True) if device.report else {}
    return {
        "device": device.name,
        "online": device.there(now_s),
        **{name: value for name, value in report.items() if name != "device"},
    }


def _table(devices: list[FleetDevice], now_s: float) -> Table:
    from rich.table import Table

    names = ("device", "pipeline", "is", "model", "follows", "that is", "ok", "why")
    table = Table(*names, title=f"{len(devices)} devices", title_justify="left")
    for device in devices:
        if device.report is None:
            table.add_row(device.name, "", "online" if device.online else "offline")
            continue
        for name, one in sorted(device.report.pipelines.items()):
            is_now = one.state if device.there(now_s) else "offline"
            share = "" if one.ok_share is None else f"{100 * one.ok_share:.1f} %"
            tag = (one.follows or "").rpartition("/")[2]
            why = one.why or one.reason or one.problem or ""
            table.add_row(device.name, name, is_now, one.model[:12], tag, one.following or "", share, why)
    return table
