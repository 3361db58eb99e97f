"""Routes that change a running pipeline; changes of its verdicts are in the audit, with their author.

A pipeline may get any model that lies in the same folder as its own model.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, Field, StringConstraints

from edgead.artifact.limits import Limits
from edgead.errors import SettingsError
from edgead.line.site.schema import MOST_PAUSE_MINUTES, current
from edgead.line.site.status import HeldOutScores, MarkedScores
from edgead.line.web.answers import Done, PipelineAnswer
from edgead.line.web.auth.callers import By, Note, named
from edgead.line.web.dependencies import ClientAddress, Daemon, NamedPart, Pipeline
from edgead.line.web.problems import problems
from edgead.line.web.routes.status import pipeline_answer
from edgead.types import NO_PART


def models_beside(model: Path) -> list[str]:
    """List the names of the models that lie in the same folder as a model.

    Parameters
    ----------
    model : Path
        Directory of the model that the site file names.
    """
    folder = _folder(model)
    try:
        found = sorted(path.name for path in folder.iterdir() if os.path.isfile(path / "manifest.json"))
    except FileNotFoundError:
        return []  # before the first model
    except OSError as error:
        raise SettingsError(f"{folder}: cannot be listed: {error.strerror}") from None
    return [name for name in found if not name.startswith(".")]


def model_beside(model: Path, name: str) -> Path:
    """Return the path of a model with a name, in the same folder as another model.

    Raises
    ------
    SettingsError
        No model of that name lies beside the pipeline's model, or it is a link to another folder.
    """
    known = models_beside(model)
    path = _folder(model) / name
    # By the listing, so that no name leads elsewhere; a link could still.
    if name not in known or path.resolve().parent != _folder(model):
        raise SettingsError(f"there is no model {name!r} beside {model.name}, known are {', '.join(known) or 'none'}")
    return path


def _folder(model: Path) -> Path:
    return model.absolute().parent.resolve()


routes = APIRouter(prefix="/api/pipelines/{name}", tags=["control"], responses=problems(404, 409))


class NewThresholds(Limits):
    by: By
    reason: Annotated[Note, Field(description="Reason for a limit that passes parts which are stopped now.")] = ""


class Swap(BaseModel):
    model: Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^/\\\x00]+$")]
    by: By


class Person(BaseModel):
    by: By


class PauseRequest(Person):
    reason: Annotated[Note, Field(description="Reason, for people, such as cleaning.")] = ""
    minutes: Annotated[
        float | None,
        Field(gt=0, le=MOST_PAUSE_MINUTES, description="Minutes until it ends; by default until `resume`."),
    ] = None


class Models(BaseModel):
    current: str
    known: list[str]


class SelfTestAnswer(BaseModel):
    result: dict[str, Any]


@routes.get("/good-scores")
def good_scores(name: str, pipeline: Pipeline) -> HeldOutScores:
    """Return the scores that the thresholds were made from: of good images, each by a model that had not learnt it."""
    return pipeline.good_scores()


@routes.get("/marked-scores")
def marked_scores(name: str, pipeline: Pipeline) -> MarkedScores:
    """Return the scores of the newest marked parts by the model in service; their images are scored again, if need be.

    That takes some milliseconds for each part that another model has judged.
    """
    return pipeline.marked_scores()


@routes.put("/thresholds")
def set_thresholds(
    name: str, pipeline: Pipeline, given: NewThresholds, daemon: Daemon, address: ClientAddress
) -> PipelineAnswer:
    """Change the thresholds of a pipeline from the next verdict on; they stay after a restart.

    A limit that may pass defects, or passes parts that were marked bad, is refused unless a reason is given.
    """
    by = named(given.by, address)
    pipeline.set_thresholds(review=given.review, reject=given.reject, by=by, reason=given.reason)
    return pipeline_answer(daemon, name, pipeline)


@routes.post("/trigger")
def fire(name: str, pipeline: Pipeline, given: NamedPart | None = None) -> Done:
    """Judge the next frame, as the frame of the named part; only for pipelines whose trigger takes requests."""
    part = given.part() if given else NO_PART
    pipeline.fire(part)
    of_part = f" as that of part {part.serial}" if part.serial else ""
    return Done(done=f"the next frame of {name} is judged{of_part}")


@routes.post("/self-test")
def self_test(name: str, pipeline: Pipeline) -> SelfTestAnswer:
    """Test the model in service on its golden images; frames are judged meanwhile."""
    return SelfTestAnswer(result=pipeline.self_test())


@routes.post("/accept-drift")
def accept_drift(
    name: str, pipeline: Pipeline, given: Person, daemon: Daemon, address: ClientAddress
) -> PipelineAnswer:
    """Accept parts and images as they are now: the warning ends with the next part, and the watch starts again."""
    pipeline.accept_drift(by=named(given.by, address))
    return pipeline_answer(daemon, name, pipeline)


@routes.post("/pause")
def pause(name: str, pipeline: Pipeline, given: PauseRequest, daemon: Daemon, address: ClientAddress) -> PipelineAnswer:
    """Judge nothing until `resume`, or for some minutes; meanwhile frames pass, and alarms wait."""
    pipeline.pause(by=named(given.by, address), reason=given.reason, minutes=given.minutes)
    return pipeline_answer(daemon, name, pipeline)


@routes.post("/resume")
def resume(name: str, pipeline: Pipeline, given: Person, daemon: Daemon, address: ClientAddress) -> PipelineAnswer:
    """End a pause: the next frame is judged."""
    pipeline.resume(by=named(given.by, address))
    return pipeline_answer(daemon, name, pipeline)


@routes.get("/models")
def list_models(name: str, pipeline: Pipeline, daemon: Daemon) -> Models:
    """List the models that this pipeline may get: those in the same folder as its own."""
    return Models(current=str(pipeline.status().model), known=models_beside(current(daemon.site.pipelines, name).model))


@routes.post("/model")
def swap(name: str, pipeline: Pipeline, given: Swap, daemon: Daemon, address: ClientAddress) -> PipelineAnswer:
    """Give a pipeline another model: load and test it, then exchange it between two frames; keep the old model."""
    path = model_beside(current(daemon.site.pipelines, name).model, given.model)
    pipeline.swap(path, by=named(given.by, address))
    return pipeline_answer(daemon, name, pipeline)


@routes.post("/roll-back")
def roll_back(name: str, pipeline: Pipeline, given: Person, daemon: Daemon, address: ClientAddress) -> PipelineAnswer:
    """Go back to the model before the last swap."""
    pipeline.roll_back(by=named(given.by, address))
    return pipeline_answer(daemon, name, pipeline)
