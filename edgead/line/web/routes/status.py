"""Routes of the status of all parts, in one answer or part by part."""

from __future__ import annotations

import time
from datetime import datetime, timezone

from fastapi import APIRouter, Request

from edgead.line.site.shifts import shift_at
from edgead.line.web.answers import CameraAnswer, PipelineAnswer, SinkAnswer, StatusAnswer
from edgead.line.web.contract import Served, ServedPipeline, failing_sinks, pipelines_waited_for
from edgead.line.web.dependencies import Daemon, Pipeline
from edgead.line.web.problems import problems
from edgead.line.web.routes.parts import list_parts
from edgead.version import __version__

routes = APIRouter(prefix="/api", tags=["status"])


@routes.get("/status")
def status(daemon: Daemon, request: Request) -> StatusAnswer:
    """Report the state of cameras, pipelines, sinks and the evidence store."""
    head, now = daemon.store.audit_chain.head, datetime.now(timezone.utc)
    return StatusAnswer(
        version=__version__,
        now=now,
        shift=shift_at(now, daemon.site.shifts).begin,
        uptime_s=time.monotonic() - request.app.state.started_s,
        ready=not pipelines_waited_for(daemon) and not failing_sinks(daemon),
        cameras=list_cameras(daemon),
        pipelines=list_pipelines(daemon),
        parts=list_parts(daemon),
        sinks=[SinkAnswer.model_validate(sink.status()) for sink in daemon.sinks.values()],
        evidence=daemon.store.status(),
        evidence_problems=list(daemon.store.problems()),
        audit_head=head.hash if head else None,
    )


@routes.get("/cameras")
def list_cameras(daemon: Daemon) -> list[CameraAnswer]:
    """List the cameras and their states."""
    return [CameraAnswer.model_validate(camera.status()) for camera in daemon.cameras.values()]


@routes.get("/pipelines")
def list_pipelines(daemon: Daemon) -> list[PipelineAnswer]:
    """List the pipelines with their states, counts, thresholds and latencies."""
    return [pipeline_answer(daemon, name, pipeline) for name, pipeline in daemon.pipelines.items()]


@routes.get("/pipelines/{name}", responses=problems(404))
def one_pipeline(name: str, pipeline: Pipeline, daemon: Daemon) -> PipelineAnswer:
    """Report the state of one pipeline."""
    return pipeline_answer(daemon, name, pipeline)


def pipeline_answer(daemon: Served, name: str, pipeline: ServedPipeline) -> PipelineAnswer:
    answer = PipelineAnswer.model_validate(pipeline.status())
    site = daemon.site  # read once: a reload exchanges it
    section = site.pipelines.get(name)
    if section is None:
        return answer
    takes_images = site.cameras[section.camera].uri.startswith("request:")
    trigger = {"trigger": section.trigger.kind, "on_request": section.trigger.on_request}
    return answer.model_copy(update={**trigger, "takes_images": takes_images})
