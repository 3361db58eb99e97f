"""The trigger of a pipeline, with the broker that may fire it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager

from edgead.site.schema import MqttSink, SinkSection, Software, TriggerSection
from edgead.triggers import SoftwareTrigger, Trigger, open_trigger


@contextmanager
def triggered(section: TriggerSection, sinks: Mapping[str, SinkSection]) -> Iterator[Trigger]:
    """Open a trigger; one that has a topic is fired by every message of it, whatever the message says.

    Raises
    ------
    SettingsError
        See `open_trigger`.
    """
    with closing(open_trigger(section)) as trigger:
        broker = sinks[section.mqtt_sink] if isinstance(section, Software) and section.mqtt_sink else None
        if not isinstance(broker, MqttSink) or not isinstance(trigger, SoftwareTrigger):
            yield trigger
            return
        from edgead.sinks.mqtt import Subscription  # only those who ask for a broker need its package

        assert isinstance(section, Software) and section.topic is not None  # the site file was checked
        with closing(Subscription(broker, section.topic, lambda _: trigger.fire())):
            yield trigger
