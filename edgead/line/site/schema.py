"""Schema of the site file, composed of the components' options, the page and limits; unknown keys are errors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, model_validator

from edgead.artifact.folder import Artifact
from edgead.components.options import Name, Seconds, Section
from edgead.components.registry import OneOf
from edgead.errors import SettingsError, suggestion
from edgead.line.drift import DriftSection
from edgead.line.evidence.settings import StoreSection
from edgead.line.site.alarms import AlarmsSection, NoticesSection
from edgead.line.site.error_text import Place, PlacedError
from edgead.line.site.http import HttpSection as HttpSection
from edgead.line.site.model_following import FleetSection, FollowSection
from edgead.line.site.models import ModelsSection
from edgead.line.site.part_naming import PartNamingSection, RecipeSection
from edgead.line.site.parts import PartSection
from edgead.line.site.shifts import ShiftSection, check_shifts
from edgead.line.triggers import TRIGGERS, TriggerOptions
from edgead.line.triggers.timing import EveryFrameOptions
from edgead.plant.mqtt.options import BrokerOptions, Topic
from edgead.process.real_time import Scheduling
from edgead.runtime import AUTO, RUNTIMES, checked_runtime
from edgead.sinks import SINKS, SinkOptions
from edgead.sources.settings import CameraSection
from edgead.types import MAX_PART_CHARACTERS, Palette

_T = TypeVar("_T")

MOST_PAUSE_MINUTES = 7 * 24 * 60.0

RuntimeName = Annotated[
    str,
    AfterValidator(checked_runtime),
    Field(description=f"auto, or one of {', '.join(RUNTIMES.all())}; options follow a ?."),
]


class RealtimeSection(Section):
    """Priority and cores of judging threads: the pipeline's own, those of its network, and those of the kernels."""

    priority: Annotated[
        int | None,
        Field(ge=1, le=99, description="Of SCHED_FIFO: before all that has none. Where it is refused, without."),
    ] = None
    cores: Annotated[
        tuple[Annotated[int, Field(ge=0, le=4095)], ...],
        Field(max_length=256, description="Cores to stay on, such as [2, 3]; by default all that edgead may use."),
    ] = ()

    @property
    def scheduling(self) -> Scheduling:
        return Scheduling(self.priority, self.cores)


class PipelineSection(Section):
    """Pipeline: one model that judges the frames of one camera."""

    camera: Name
    model: Annotated[Path, Field(description="The model's folder, relative to the site file.")]
    commissioned: Annotated[
        bool,
        Field(
            description="Its model is made on the page: as long as there is none, it waits; and the one that was put "
            "into service last judges after a restart, until `model` names another."
        ),
    ] = False
    follow: Annotated[
        FollowSection | None,
        Field(description="A registry's tag whose model takes the place of `model`."),
    ] = None
    runtime: RuntimeName = AUTO
    precision: Annotated[
        Literal["fp32", "fp16", "int8"] | None,
        Field(description="Which graph; by default the one that the model names."),
    ] = None
    threads: Annotated[
        int | None,
        Field(
            ge=1,
            le=256,
            description="Of the network; by default one for each of its `cores`, else an equal share of all.",
        ),
    ] = None
    realtime: Annotated[
        RealtimeSection, Field(description="Priority and cores, for a latency that other programs do not disturb.")
    ] = RealtimeSection()
    trigger: Annotated[
        TriggerOptions, OneOf(TRIGGERS), Field(description="Which frames are judged; by default every one.")
    ] = EveryFrameOptions()
    part: Annotated[
        PartNamingSection | None, Field(description="How it learns which part a frame shows, besides its trigger.")
    ] = None
    recipes: Annotated[
        dict[Annotated[str, Field(min_length=1, max_length=MAX_PART_CHARACTERS)], RecipeSection],
        Field(description="Models by the recipe that a part asks for; a part that names none has the pipeline's own."),
    ] = {}
    unknown_recipe: Annotated[
        Literal["fault", "review"],
        Field(
            description="A part that asks for another recipe: no verdict, and a fault; or judged by the pipeline's own "
            "model, and never better than review."
        ),
    ] = "fault"
    sinks: Annotated[tuple[Name, ...], Field(description="Sinks, by name.")] = ()
    budget_ms: Annotated[
        float | None,
        Field(
            gt=0,
            le=86_400_000,
            description="From the capture to the verdict; what takes longer is counted as late, and a model whose "
            "frames take longer is refused in place of one in service.",
        ),
    ] = None
    palette: Annotated[
        Palette,
        Field(description="Colours of heat maps; blue is seen better on yellow, brown and red parts."),
    ] = "warm"
    drift: Annotated[DriftSection | None, Field(description="null watches for none.")] = DriftSection()
    alarms: Annotated[AlarmsSection, Field(description="When it raises an alarm; by default never.")] = AlarmsSection()

    def check_model(self, artifact: Artifact) -> None:
        """Raise SettingsError if a model cannot judge the frames that the trigger chooses."""
        if artifact.manifest.head.in_order and not self.trigger.wants_all:
            raise SettingsError(
                f"{artifact.path} judges every frame in order, and the trigger {self.trigger.kind} picks some: leave "
                "the trigger out"
            )


class LimitsSection(Section):
    """Limits of restarts, and of the times for draining and lessons."""

    restarts: Annotated[
        int, Field(ge=0, le=10**6, description="Restarts of a pipeline within `restarts_within_s`.")
    ] = 5
    restarts_within_s: Annotated[Seconds, Field(description="The time in which restarts are counted.")] = 600.0
    drain_s: Annotated[float, Field(gt=0, le=60, description="For work in progress when it stops.")] = 1.5
    lesson_s: Annotated[
        Seconds, Field(description="Longest that a lesson which was asked for on the page may take.")
    ] = 1800.0


class PauseSection(BrokerOptions):
    """MQTT topic whose messages pause and resume pipelines: `{"paused": true, "reason": "cleaning"}`."""

    topic: Annotated[Topic, Field(description="Whose messages do that.")]


class Site(Section):
    """Content of a site file."""

    cameras: dict[Name, CameraSection] = Field(min_length=1, description="Cameras, by name.")
    pipelines: dict[Name, PipelineSection] = Field(
        min_length=1, description="Pipelines, by name: each judges one camera with one model."
    )
    sinks: Annotated[dict[Name, Annotated[SinkOptions, OneOf(SINKS)]], Field(description="Sinks, by name.")] = {}
    parts: Annotated[
        dict[Name, PartSection], Field(description="Parts, by name: each makes one verdict of several pipelines.")
    ] = {}
    shifts: Annotated[
        dict[Name, ShiftSection], Field(description="Shifts, by name; by default one a day, from midnight on.")
    ] = {}
    store: Annotated[StoreSection, Field(description="The record of every verdict.")] = StoreSection()
    http: Annotated[HttpSection | None, Field(description="The page and the API; null for none.")] = HttpSection()
    models: Annotated[ModelsSection, Field(description="Which models may judge.")] = ModelsSection()
    fleet: Annotated[FleetSection | None, Field(description="To whom it reports which models judge here.")] = None
    pause: Annotated[PauseSection | None, Field(description="Where other systems pause the line by messages.")] = None
    notices: Annotated[
        NoticesSection, Field(description="Who receives notices of alarms, faults and drift, besides the page.")
    ] = NoticesSection()
    limits: Annotated[LimitsSection, Field(description="What the daemon bears before it gives up.")] = LimitsSection()

    @model_validator(mode="after")
    def _known_names(self) -> Site:
        for name, pipeline in self.pipelines.items():
            _expect(pipeline.camera, self.cameras, ("pipelines", name, "camera"))
            for sink in pipeline.sinks:
                _expect(sink, self.sinks, ("pipelines", name, "sinks"))
        try:
            check_shifts(self.shifts)
        except ValueError as error:
            raise PlacedError(("shifts",), str(error)) from None
        for name, part in self.parts.items():
            if name in self.pipelines:
                raise PlacedError(("parts", name), "a pipeline has that name: sinks could not tell them apart")
            for view in part.pipelines:
                _expect(view, self.pipelines, ("parts", name, "pipelines"))
            for sink in part.sinks:
                _expect(sink, self.sinks, ("parts", name, "sinks"))
        for sink in self.notices.sinks:
            _expect(sink, self.sinks, ("notices", "sinks"))
            if not self.sinks[sink].takes_notices:
                raise PlacedError(
                    ("notices", "sinks"), f"{sink!r} takes verdicts alone; mqtt (JSON) and webhook do take notices"
                )
        return self


def _expect(name: str, known: Mapping[str, object], place: Place) -> None:
    if name not in known:
        hint = suggestion(name, known) or f", known are {', '.join(known) or 'none'}"
        raise PlacedError(place, f"there is no {name!r}{hint}")


def current(parts: Mapping[str, _T], name: str, kind: str = "pipeline") -> _T:
    """Return the pipeline or camera (or its section) of this name; raise SettingsError if a reload has removed it."""
    if name not in parts:
        raise SettingsError(f"there is no {kind} {name} any more: the site file has changed")
    return parts[name]
