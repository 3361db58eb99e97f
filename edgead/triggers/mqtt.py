"""A trigger by messages of an MQTT broker."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from edgead.plant.mqtt.options import BrokerOptions
from edgead.triggers.contract import TriggerOptions
from edgead.triggers.registry import register
from edgead.triggers.timing import SoftwareTrigger


class MqttTriggerOptions(TriggerOptions, BrokerOptions):
    """Judge the first frame that was captured after a message of a topic, whatever it says, or a call over HTTP."""

    kind: Literal["mqtt"]
    topic: Annotated[str, Field(min_length=1, description="Whose messages ask for a frame.")]
    on_request: ClassVar[bool] = True


class MqttTrigger(SoftwareTrigger):
    """Fired by every message of a topic.

    Raises
    ------
    SettingsError
        The package `paho-mqtt` is missing. A broker that is away is no reason: it may come.
    """

    def __init__(self, options: MqttTriggerOptions):
        from edgead.plant.mqtt.subscription import Subscription  # only those who ask for a broker need its package

        super().__init__()
        self._subscription = Subscription(options, options.topic, lambda _: self.fire())

    def close(self) -> None:
        self._subscription.close()


register("mqtt", MqttTriggerOptions, MqttTrigger)
