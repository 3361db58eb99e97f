"""Forms of the site file that earlier versions took, in the words of today."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgead.plant.mqtt.options import BrokerOptions
from edgead.site.explain import PlacedError


def renew(content: Any) -> Any:
    """Rewrite old forms in what was read of a site file; what is neither old nor right is left for the schema.

    A software trigger could name the sink whose broker it listens to (`mqtt_sink`): it becomes one of kind mqtt.
    A drift watch could have `pictures`: they are `images`.

    Raises
    ------
    PlacedError
        The sink is none of kind mqtt, or the topic is missing.
    """
    if not isinstance(content, Mapping) or not isinstance(content.get("pipelines"), Mapping):
        return content
    sinks = content.get("sinks")
    pipelines = {
        name: _with_drift(_with_trigger(name, pipeline, sinks if isinstance(sinks, Mapping) else {}))
        for name, pipeline in content["pipelines"].items()
    }
    return {**content, "pipelines": pipelines}


def _with_drift(pipeline: Any) -> Any:
    drift = pipeline.get("drift") if isinstance(pipeline, Mapping) else None
    if not isinstance(drift, Mapping) or "pictures" not in drift or "images" in drift:
        return pipeline
    rest = {key: value for key, value in drift.items() if key != "pictures"}
    return {**pipeline, "drift": {**rest, "images": drift["pictures"]}}


def _with_trigger(name: Any, pipeline: Any, sinks: Mapping[Any, Any]) -> Any:
    trigger = pipeline.get("trigger") if isinstance(pipeline, Mapping) else None
    if not isinstance(trigger, Mapping) or trigger.get("kind") != "software":
        return pipeline
    sink = trigger.get("mqtt_sink")
    rest = {key: value for key, value in trigger.items() if key not in ("mqtt_sink", "topic")}
    if sink is None:
        return {**pipeline, "trigger": rest}
    broker = sinks.get(sink) if isinstance(sink, str) else None
    if not isinstance(broker, Mapping) or broker.get("kind") != "mqtt" or not trigger.get("topic"):
        raise PlacedError(
            ("pipelines", name, "trigger"),
            "mqtt_sink must name a sink of kind mqtt, and topic a topic of its broker; or "
            "write {kind: mqtt, host: BROKER, topic: TOPIC}",
        )
    of_broker = {key: value for key, value in broker.items() if key in BrokerOptions.model_fields}
    return {**pipeline, "trigger": {**of_broker, **rest, "kind": "mqtt", "topic": trigger["topic"]}}
