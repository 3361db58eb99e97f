"""Trigger by messages of an MQTT broker."""

from __future__ import annotations

import time
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from edgead.line.triggers.contract import TriggerOptions
from edgead.line.triggers.message import part_of
from edgead.line.triggers.registry import register
from edgead.line.triggers.timing import SoftwareTrigger, WithinMs
from edgead.plant.mqtt.options import BrokerOptions
from edgead.types import NO_PART


class MqttTriggerOptions(TriggerOptions, BrokerOptions):
    """Judge the first frame that was captured after a message on a topic, or after a call over HTTP.

    A message may name the part: as JSON with `serial`, `batch` and `recipe`, or as plain text, its serial number.
    """

    kind: Literal["mqtt"]
    topic: Annotated[str, Field(min_length=1, description="Topic of messages that request a frame.")]
    within_ms: WithinMs = None
    on_request: ClassVar[bool] = True


class MqttTrigger(SoftwareTrigger):
    """Trigger that every message on a topic fires.

    Raises SettingsError: the package `paho-mqtt` is missing. It is no error if the broker does not answer yet.
    """

    def __init__(self, options: MqttTriggerOptions):
        from edgead.plant.mqtt.client import MqttSubscription  # only those who ask for a broker need its package

        super().__init__(options.within_ms)
        self._subscription = MqttSubscription(options, options.topic, self._receive)

    def close(self) -> None:
        self._subscription.close()
        super().close()

    def _receive(self, message: bytes) -> None:
        at_ns = time.perf_counter_ns()
        try:
            part = part_of(message)
        except ValueError as error:
            self.log.warning("a message names no part, its frame is judged without one: %s", error)
            part = NO_PART
        self.fire(at_ns, part)


register("mqtt", MqttTriggerOptions, MqttTrigger)
