"""Sections of the site file for pipelines whose model follows a registry's tag, and for a device's reports."""

from __future__ import annotations

import re
import socket
from typing import Annotated

from pydantic import AfterValidator, Field

from edgead.artifact.oci.reference import TaggedModel
from edgead.components.options import Seconds, Section
from edgead.plant.mqtt.options import BrokerOptions, Topic

# One level of an MQTT topic, and short enough for a table.
_DEVICE = re.compile(r"[^/+#\s\x00-\x1f$][^/+#\x00-\x1f]{0,63}")


def _one_level(name: str) -> str:
    if not _DEVICE.fullmatch(name):
        raise ValueError("is no level of a topic: 1 to 64 characters without /, + and #")
    return name


class FollowSection(Section):
    """Tag of a registry; the model that it names judges as soon as it has passed its self-test on this device."""

    source: Annotated[TaggedModel, Field(alias="from", description="oci://HOST/NAME:TAG.")]
    every_s: Annotated[Seconds, Field(ge=1, description="Interval at which the device checks the tag.")] = 300.0
    jitter: Annotated[
        float, Field(ge=0, le=1, description="Share of `every_s` by which each request is randomly earlier or later.")
    ] = 0.2
    most_kib_s: Annotated[
        int | None, Field(ge=16, le=1 << 20, description="Limit of the rate of downloads; by default there is none.")
    ] = None


class FleetSection(BrokerOptions):
    """MQTT broker that gets this device's reports: its pipelines, their models, and counts of verdicts."""

    device: Annotated[
        str | None,
        Field(description="Name of the device in the fleet; by default the computer's name."),
        AfterValidator(lambda name: name if name is None else _one_level(name)),
    ] = None
    topic: Annotated[Topic, Field(description="Topic; the device's name follows.")] = "edgead/fleet"
    every_s: Annotated[Seconds, Field(ge=1, description="Interval of reports; changes are reported at once.")] = 60.0

    @property
    def name(self) -> str:
        return self.device or socket.gethostname()
