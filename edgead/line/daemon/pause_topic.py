"""Topic of an MQTT broker by which other systems pause and resume the pipelines of a line."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgead.errors import EdgeadError, NotNowError
from edgead.line.site.schema import MOST_PAUSE_MINUTES, PauseSection, Site
from edgead.process.log_rate import limited_log

if TYPE_CHECKING:
    from edgead.line.daemon.pipeline import Pipeline
    from edgead.plant.mqtt.client import MqttSubscription

logger = logging.getLogger(__name__)
_MAX_WARNINGS, _WARNINGS_WITHIN_S = 10, 60.0


class _Message(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    paused: bool
    reason: Annotated[str, Field(max_length=200)] = ""
    minutes: Annotated[float | None, Field(gt=0, le=MOST_PAUSE_MINUTES)] = None
    pipelines: list[str] | None = None


class PauseTopic:
    """Listener of the site's pause topic: pauses and resumes pipelines as messages ask, and logs failures."""

    def __init__(self) -> None:
        self._section: PauseSection | None = None
        self._subscription: MqttSubscription | None = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="pause")  # the audit may take its time
        self._log = limited_log(__name__, _MAX_WARNINGS, _WARNINGS_WITHIN_S)

    def follow(self, site: Site, pipelines: Callable[[], Mapping[str, Pipeline]]) -> None:
        """Listen to the topic of a site file; `pipelines` returns the current pipelines when a message comes."""
        if site.pause == self._section:
            return
        if self._subscription is not None:
            self._subscription.close()
        self._section, self._subscription = site.pause, None
        if (section := site.pause) is None:
            return
        by = f"mqtt {section.topic}"
        try:
            from edgead.plant.mqtt.client import MqttSubscription  # only those who have a broker need its package

            self._subscription = MqttSubscription(
                section, section.topic, lambda payload: self._worker.submit(self._do, payload, by, pipelines)
            )
        except EdgeadError as error:
            logger.error("nothing is paused by MQTT: %s", error)

    def close(self) -> None:
        """Stop listening; wait for the broker for a few seconds at most."""
        if self._subscription is not None:
            self._subscription.close()
        self._worker.shutdown(wait=False, cancel_futures=True)

    def _do(self, payload: bytes, by: str, pipelines: Callable[[], Mapping[str, Pipeline]]) -> None:
        try:
            asked = _Message.model_validate_json(payload)
        except ValidationError as error:
            self._log.warning("%s: a message is no JSON object of a pause: %s", by, error.errors()[0]["msg"])
            return
        there = pipelines()
        for name in asked.pipelines if asked.pipelines is not None else there:
            try:
                if name not in there:
                    raise NotNowError(f"there is no pipeline {name!r}, known are {', '.join(there)}")
                if asked.paused:
                    there[name].pause(by=by, reason=asked.reason, minutes=asked.minutes)
                else:
                    there[name].resume(by=by)
            except EdgeadError as error:
                self._log.warning("%s: %s", by, error)
            except Exception:  # the edge of its thread: the other pipelines are asked all the same
                logger.exception("%s", by)
