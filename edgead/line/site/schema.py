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
    """Priority and cores of judging threads: the pipeline's own, its network's, and those of the compiled kernels."""

    priority: Annotated[
        int | None,
        Field(ge=1, le=99, description="Priority of SCHED_FIFO; if the system refuses it, threads run without it."),
    ] = None
    cores: Annotated[
        tuple[Annotated[int, Field(ge=0, le=4095)], ...],
        Field(max_length=256, description="Cores to run on, such as [2, 3]; by default all that edgead may use."),
    ] = ()

    @property
    def scheduling(self) -> Scheduling:
        return Scheduling(self.priority, self.cores)


class PipelineSection(Section):
    """Pipeline: one model that judges the frames of one camera."""

    camera: Name
    model: Annotated[Path, Field(description="Folder of the model, relative to the site file.")]
    commissioned: Annotated[
        bool,
        Field(
            description="The model is made on the page; the pipeline waits until there is one. After a restart, the "
            "model that was put into service last judges, until `model` names another."
        ),
    ] = False
    follow: Annotated[
        FollowSection | None, Field(description="A registry's tag whose model takes the place of `model`.")
    ] = None
    runtime: RuntimeName = AUTO
    precision: Annotated[
        Literal["fp32", "fp16", "int8"] | None,
        Field(description="Precision of the graph; by default that of the model's default graph."),
    ] = None
    threads: Annotated[
        int | None,
        Field(
            ge=1,
            le=256,
            description="Threads of the network; by default one for each of `cores`, else an equal share of all.",
        ),
    ] = None
    realtime: Annotated[
        RealtimeSection, Field(description="Priority and cores, for a latency that other programs do not disturb.")
    ] = RealtimeSection()
    trigger: Annotated[
        TriggerOptions, OneOf(TRIGGERS), Field(description="Which frames are judged; by default every one.")
    ] = EveryFrameOptions()
    part: Annotated[PartNamingSection | None, Field(description="Names of parts that come from the frame.")] = None
    recipes: Annotated[
        dict[Annotated[str, Field(min_length=1, max_length=MAX_PART_CHARACTERS)], RecipeSection],
        Field(description="Models by recipe, for parts that name one; `model` judges parts that name none."),
    ] = {}
    unknown_recipe: Annotated[
        Literal["fault", "review"],
        Field(
            description="For a part that names another recipe: no verdict, and a fault; or a verdict by the pipeline's "
            "own model, never better than review."
        ),
    ] = "fault"
    sinks: Annotated[tuple[Name, ...], Field(description="Names of sinks that get the verdicts.")] = ()
    budget_ms: Annotated[
        float | None,
        Field(
            gt=0,
            le=86_400_000,
            description="Time from the capture to the verdict; later verdicts are counted as late, and a model that "
            "takes longer cannot replace one in service.",
        ),
    ] = None
    palette: Annotated[
        Palette, Field(description="Colours of heat maps; blue is seen better on yellow, brown and red parts.")
    ] = "warm"
    drift: Annotated[DriftSection | None, Field(description="Drift watch; null for none.")] = DriftSection()
    alarms: Annotated[AlarmsSection, Field(description="Limits that raise alarms.")] = AlarmsSection()

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
    restarts_within_s: Annotated[Seconds, Field(description="Time in which restarts are counted.")] = 600.0
    drain_s: Annotated[float, Field(gt=0, le=60, description="Time for current work at a stop.")] = 1.5
    lesson_s: Annotated[
        Seconds, Field(description="Longest time for a lesson, or a sorting of rejects, from the page.")
    ] = 1800.0


class PauseSection(BrokerOptions):
    """MQTT topic whose messages pause and resume pipelines: `{"paused": true, "reason": "cleaning"}`."""

    topic: Annotated[Topic, Field(description="MQTT topic of the messages.")]


class Site(Section):
    """Content of a site file."""

    cameras: dict[Name, CameraSection] = Field(min_length=1, description="Cameras, by name.")
    pipelines: dict[Name, PipelineSection] = Field(
        min_length=1, description="Pipelines, by name: each judges one camera with one model."
    )
    sinks: Annotated[dict[Name, Annotated[SinkOptions, OneOf(SINKS)]], Field(description="Sinks, by name.")] = {}
    parts: Annotated[
        dict[Name, PartSection], Field(description="Parts, by name: one verdict from those of several pipelines.")
    ] = {}
    shifts: Annotated[
        dict[Name, ShiftSection], Field(description="Shifts, by name; by default one a day, from midnight on.")
    ] = {}
    store: Annotated[StoreSection, Field(description="Record of every verdict.")] = StoreSection()
    http: Annotated[HttpSection | None, Field(description="The page and the API; null for none.")] = HttpSection()
    models: Annotated[ModelsSection, Field(description="Models that may judge.")] = ModelsSection()
    fleet: Annotated[FleetSection | None, Field(description="Broker for this device's reports.")] = None
    pause: Annotated[PauseSection | None, Field(description="Topic by which other systems pause the line.")] = None
    notices: Annotated[
        NoticesSection, Field(description="Receivers of notices of alarms, faults and drift, besides the page.")
    ] = NoticesSection()
    limits: Annotated[LimitsSection, Field(description="Limits of restarts and waiting.")] = LimitsSection()

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
