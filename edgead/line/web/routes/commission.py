"""Routes of commissioning: the draft of a model, from the first good part to the model in service."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, HTTPException, Query, Request, Response
from pydantic import AfterValidator, BaseModel, Field, StringConstraints
from starlette.concurrency import run_in_threadpool

from edgead.images.files import ImageError, load_image
from edgead.images.overlay import draw_heat
from edgead.line.site.status import Answer, Number
from edgead.line.web.answers import Done
from edgead.line.web.auth.callers import By, named
from edgead.line.web.dependencies import NAME, Camera, ClientAddress, Daemon, ImageName, must_be_printable
from edgead.line.web.live_images import jpeg_of
from edgead.line.web.middleware import MAX_IMAGE_BYTES
from edgead.line.web.problems import problems
from edgead.line.web.routes.control import Person
from edgead.line.web.routes.judge import IMAGE_BODY, check_image_type
from edgead.line.web.routes.live import JPEG, image_file
from edgead.types import Decision

routes = APIRouter(prefix="/api/commission", tags=["commission"], responses=problems(404, 409))
_TRIED_PX = 640
T = TypeVar("T")

Numbers = Annotated[
    list[Annotated[int, Field(ge=0, le=65_535)]],
    Field(max_length=400, description="x, y, width, height, or the corners x, y, x, y, ... of a polygon."),
]
Preset = Literal["auto", "default", "fast"]
ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class ProgressAnswer(Answer):
    stage: str
    done: int
    total: int
    waits: Annotated[bool, Field(description="Whether it waits for a free core: verdicts come first.")] = False


class ShownPart(Answer):
    name: str
    scaled_score: Annotated[
        Number, Field(description="Score; 0 is the typical part, 100 the limit; null in drafts of earlier versions.")
    ] = None
    odd: Annotated[bool, Field(description="Whether it is unlike all others.")]


class ResultAnswer(Answer):
    learnt: Annotated[int, Field(description="Parts in the memory bank.")]
    calibrated: Annotated[int, Field(description="Parts that the limit comes from, each scored as if not learnt.")]
    false_reject_rate: Number
    review: Annotated[Number, Field(description="Score above which a part goes to review; 100 where none does.")] = 100
    groups: Annotated[int, Field(description="Groups of the parts behind the limit; 0 without groups.")] = 0
    preset: Annotated[str, Field(description="Preset of patchcore.")] = "fast"
    frame_ms: Annotated[Number, Field(description="Time of a frame on one core, during inspection.")]
    blurred: Annotated[list[str], Field(description="Images that are far less sharp than the others.")]
    parts: Annotated[list[ShownPart], Field(description="Parts: odd ones first, then the highest scores.")]


class JudgedBy(Answer):
    name: str
    budget_ms: Number


class DraftAnswer(Answer):
    camera: str
    state: Literal["draft", "collecting", "learning", "learnt"]
    begun_by: str
    begun_at: datetime
    changed_by: str
    revision: Annotated[int, Field(description="Send it with a change; an old one is refused.")]
    wanted: int
    region: Numbers | None
    ignored: list[Numbers]
    preset: Preset
    frame_width: int | None
    frame_height: int | None
    images: Annotated[list[str], Field(description="Names of the images, oldest first.")]
    left_out: Annotated[list[str], Field(description="Names of images that were taken out and can be put back.")]
    other_sizes: Annotated[list[str], Field(description="Names of images of another size than most have.")]
    files: Annotated[dict[str, str], Field(description="Names of the files that images came from, by image.")]
    mib: Number
    alike: Annotated[int, Field(description="Frames left out, since they repeat an earlier one.")]
    parts: Annotated[int, Field(description="Number of parts; names of files may tell that several images show one.")]
    rate: Annotated[Number, Field(description="False-reject rate that so many parts allow; null if none.")]
    next_rate: Annotated[Number, Field(description="Next stricter rate.")]
    next_parts: Annotated[int | None, Field(description="Number of parts for that rate.")]
    pipelines: Annotated[list[JudgedBy], Field(description="Pipelines that judge the camera.")]
    mode: Literal["off", "trigger", "interval"]
    every_s: Number
    problem: str | None
    two_products: Annotated[list[str], Field(description="Images that look like another product: learning asks first.")]
    learning: ProgressAnswer | None
    result: ResultAnswer | None
    stale: Annotated[bool, Field(description="Whether images or places changed since the result, or it is missing.")]


class CameraDraft(Answer):
    camera: str
    draft: DraftAnswer | None
    problem: Annotated[str | None, Field(description="Reason why its draft cannot be used.")]


class TakenAnswer(Answer):
    image: Annotated[str | None, Field(description="Name of the image; null if it repeats another one.")]
    like: str | None
    images: int


class TriedAnswer(Answer):
    scaled_score: Annotated[Number, Field(description="0 is the typical part, 100 the limit; null without a scale.")]
    decision: Decision
    image: Annotated[str, Field(description="Image as JPEG in Base64.")]
    heat_map: Annotated[str, Field(description="Heat map as JPEG in Base64.")]


class FolderAnswer(Answer):
    sent: Annotated[
        dict[str, str],
        Field(description="Names of images sent before, also of those taken out, by the SHA-256 of their files."),
    ]
    max_bytes: Annotated[int, Field(description="Largest size of a file.")]


class GoneAnswer(Answer):
    model: str
    yaml: Annotated[str, Field(description="Lines that the site file needs to keep it after a restart; may be empty.")]


class DraftChange(BaseModel):
    wanted: Annotated[int, Field(ge=1, le=100_000, description="Number of good parts to collect.")]
    region: Numbers | None = None
    ignored: Annotated[list[Numbers], Field(max_length=50)] = []
    preset: Annotated[Preset, Field(description="auto is the preset that suits the machine.")] = "auto"
    revision: Annotated[int, Field(ge=0, le=2**53)]
    by: By


class CollectRequest(BaseModel):
    mode: Literal["off", "trigger", "interval"]
    every_s: Annotated[float, Field(ge=0.1, le=3600, description="Seconds between frames, with `interval`.")] = 2.0


class LearnRequest(BaseModel):
    one_product: Annotated[bool, Field(description="Learn also where the images look like two products.")] = False


class Folder(BaseModel):
    folder: Annotated[
        str, StringConstraints(strip_whitespace=True, max_length=128), AfterValidator(must_be_printable)
    ] = ""
    images: Annotated[int, Field(ge=1, le=1_000_000, description="Number of images that follow.")]
    by: By


class ServiceRequest(BaseModel):
    model: ModelName
    pipeline: Annotated[str | None, Field(pattern=NAME, description="null if the site does not have it.")] = None
    by: By


@routes.get("")
def list_drafts(daemon: Daemon) -> list[CameraDraft]:
    """List the cameras, each with its draft."""
    return [CameraDraft.model_validate(one) for one in daemon.commissioning.drafts()]


@routes.get("/{name}")
def one_draft(name: str, camera: Camera, daemon: Daemon) -> DraftAnswer:
    """Report the draft of a camera: its settings, its images, the current work, and the result."""
    return _answer(daemon, name)


@routes.post("/{name}")
def begin(name: str, camera: Camera, given: Person, daemon: Daemon, address: ClientAddress) -> DraftAnswer:
    """Begin a draft for a camera that has none."""
    daemon.commissioning.begin(name, named(given.by, address))
    return _answer(daemon, name)


@routes.put("/{name}")
def change(name: str, camera: Camera, given: DraftChange, daemon: Daemon, address: ClientAddress) -> DraftAnswer:
    """Set the number of parts, the region, and the places to ignore."""
    drawn = given.model_dump(include={"wanted", "region", "ignored", "preset"})
    daemon.commissioning.change(name, drawn, revision=given.revision, by=named(given.by, address))
    return _answer(daemon, name)


@routes.post("/{name}/discard")
def discard(name: str, camera: Camera, given: Person, daemon: Daemon, address: ClientAddress) -> Done:
    """Remove a draft with all its images; models that went into service stay."""
    daemon.commissioning.discard(name, named(given.by, address))
    return Done(done=f"the draft of {name} is gone")


@routes.post("/{name}/take")
def take(name: str, camera: Camera, daemon: Daemon) -> TakenAnswer:
    """Take the newest frame of the camera as a good part."""
    return TakenAnswer.model_validate(daemon.commissioning.work(name).take())


@routes.post("/{name}/folder")
def begin_folder(name: str, camera: Camera, given: Folder, daemon: Daemon, address: ClientAddress) -> FolderAnswer:
    """Begin or continue to send a folder of good parts' images; return those that were sent before. Audited."""
    by = named(given.by, address)
    sent = daemon.commissioning.begin_sending(name, given.folder, given.images, by)
    return FolderAnswer(sent=sent, max_bytes=MAX_IMAGE_BYTES)


@routes.post("/{name}/images", openapi_extra=IMAGE_BODY, responses=problems(413, 415, 422, 503))
async def send(
    name: str,
    camera: Camera,
    daemon: Daemon,
    request: Request,
    file: Annotated[
        str, Query(max_length=255, description="Name of the file."), AfterValidator(must_be_printable)
    ] = "",
) -> TakenAnswer:
    """Take the image file of the body as a good part, after `folder`; an image that was taken before is not repeated.

    422: this file is refused; 409: any other would be refused too; 503: send it again.
    """
    taken = await _with_file(request, name, daemon.commissioning.send, file)
    return TakenAnswer.model_validate(taken)


@routes.post("/{name}/try", openapi_extra=IMAGE_BODY, responses=problems(413, 415, 422, 503))
async def try_image(name: str, camera: Camera, daemon: Daemon, request: Request) -> TriedAnswer:
    """Judge the image file of the body by the learnt model, without counting, recording or keeping anything.

    409: there is no model, or one is being learnt; 422: this file is refused; 503: send it again.
    """

    def judged(*given: Any) -> TriedAnswer:
        image, verdict = daemon.commissioning.try_image(*given)
        shown = [base64.b64encode(jpeg_of(each, _TRIED_PX)).decode() for each in (image, draw_heat(image, verdict))]
        return TriedAnswer(scaled_score=verdict.score, decision=verdict.decision, image=shown[0], heat_map=shown[1])

    return await _with_file(request, name, judged)


@routes.post("/{name}/collect")
def collect(name: str, camera: Camera, given: CollectRequest, daemon: Daemon) -> DraftAnswer:
    """Start or stop collecting frames as good parts: those that a pipeline judges, or one in each interval."""
    daemon.commissioning.work(name).collect(given.mode, given.every_s)
    return _answer(daemon, name)


@routes.get("/{name}/images/{image_name}", response_class=Response, responses={200: JPEG})
def image(
    name: str,
    camera: Camera,
    image_name: ImageName,
    daemon: Daemon,
    width: Annotated[int, Query(ge=16, le=4096, description="Largest width in pixels.")] = 240,
) -> Response:
    """Return a good part's image as JPEG; the draft keeps it without loss."""
    try:
        found = load_image(daemon.commissioning.work(name).image(image_name))
    except ImageError:
        raise HTTPException(404, f"there is no image {image_name} in the draft of {name}") from None
    return Response(jpeg_of(found, width), media_type="image/jpeg")


@routes.post("/{name}/images/{image_name}/{change}")
def move_image(
    name: str,
    camera: Camera,
    image_name: ImageName,
    change: Literal["remove", "restore"],
    daemon: Daemon,
    address: ClientAddress,
    given: Person | None = None,
) -> DraftAnswer:
    """Take an image out of a draft, or put one back."""
    by = (given.by if given else "") or "somebody"  # earlier programs give no name
    daemon.commissioning.move_image(name, image_name, change, named(by, address))
    return _answer(daemon, name)


@routes.post("/{name}/learn")
def learn(name: str, camera: Camera, daemon: Daemon, given: LearnRequest | None = None) -> DraftAnswer:
    """Learn a model from the draft, in a process of low priority; `learning` reports its progress.

    It stops before it has learnt anything where images look like two products, and `two_products` names them.
    """
    daemon.commissioning.learn(name, given is not None and given.one_product)
    return _answer(daemon, name)


@routes.post("/{name}/cancel")
def cancel(name: str, camera: Camera, daemon: Daemon) -> DraftAnswer:
    """Stop learning; images and the earlier result stay."""
    daemon.commissioning.work(name).cancel()
    return _answer(daemon, name)


@routes.get("/{name}/maps/{image_name}", response_class=Response, responses={200: JPEG})
def heat_map(name: str, camera: Camera, image_name: ImageName, daemon: Daemon) -> Response:
    """Return the heat map of one of the images, by the learnt model."""
    return image_file(daemon.commissioning.work(name).map_of(image_name), f"there is no heat map of {image_name}")


@routes.post("/{name}/go")
def go(name: str, camera: Camera, given: ServiceRequest, daemon: Daemon, address: ClientAddress) -> GoneAnswer:
    """Save the learnt model beside the others; if a pipeline is named, test the model and let it judge. Audited."""
    by = named(given.by, address)
    return GoneAnswer.model_validate(daemon.commissioning.go(name, given.model, given.pipeline, by))


async def _with_file(request: Request, name: str, use: Callable[..., T], *given: str) -> T:
    """Call `use` in another thread with a camera's name and the image file of a request's body; return its result."""
    check_image_type(request)
    with request.app.state.desk.place(f"camera {name}"):
        data = await request.body()
        try:
            return await run_in_threadpool(use, name, data, *given)
        except ImageError as error:
            raise HTTPException(422, str(error)) from None


def _answer(daemon: Daemon, name: str) -> DraftAnswer:
    found: dict[str, Any] | None = daemon.commissioning.draft(name)
    if found is None:
        raise HTTPException(404, f"camera {name} has no draft: begin one")
    return DraftAnswer.model_validate(found)
