"""Models that follow a registry's tag, and reports of a device: their sections of the site file."""

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
    """The tag of a registry whose model judges, as soon as it has passed its self-test here."""

    source: Annotated[TaggedModel, Field(alias="from", description="oci://HOST/NAME:TAG.")]
    every_s: Annotated[Seconds, Field(ge=1, description="How often the tag is looked at.")] = 300.0
    jitter: Annotated[
        float, Field(ge=0, le=1, description="Share of `every_s` by which each look is earlier or later, by chance.")
    ] = 0.2
    most_kib_s: Annotated[
        int | None,
        Field(ge=16, le=1 << 20, description="For a model that comes; by default all that the network gives."),
    ] = None


class FleetSection(BrokerOptions):
    """The MQTT broker that this device reports to: which models judge, and how they do."""

    device: Annotated[
        str | None,
        Field(description="Its name in the fleet; by default the computer's."),
        AfterValidator(lambda name: name if name is None else _one_level(name)),
    ] = None
    topic: Annotated[Topic, Field(description="Before its name.")] = "edgead/fleet"
    every_s: Annotated[Seconds, Field(ge=1, description="How often it reports; a change is reported at once.")] = 60.0

    @property
    def name(self) -> str:
        return self.device or socket.gethostname()
