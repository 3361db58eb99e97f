"""Drafts of the models of a site, one for each camera: begun, resumed, discarded, and put into service."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from pydantic import ValidationError

from edgead.artifact.folder import Artifact, ArtifactError, new_artifact
from edgead.artifact.manifest import read_manifest
from edgead.errors import EdgeadError, NotNowError, tell_invalid
from edgead.files.atomic import remove_abandoned
from edgead.images.verdict import ImageVerdict
from edgead.line.daemon.commission.draft import IMAGES, Bounds, Draft, DraftError, DraftSettings, Row, discard
from edgead.line.daemon.commission.draft_work import CameraLine, DraftWork, Inspecting, give_way
from edgead.line.site.schema import current

logger = logging.getLogger(__name__)

FOLDER = "commission"
T = TypeVar("T")


class Commissioning:
    """Drafts of a site, one per camera, kept in the folder of the evidence store over restarts of the daemon."""

    def __init__(self, daemon: Inspecting):
        self._daemon = daemon
        self._works: dict[str, DraftWork] = {}
        self._lock = threading.RLock()
        self._going = threading.Lock()
        self._closed = False
        self._sending = ThreadPoolExecutor(1, "sent images", give_way)

    def open(self) -> None:
        """Remove unfinished models that a killed daemon or command has left beside the finished ones."""
        for folder in {section.model.absolute().parent.resolve() for section in self._daemon.site.pipelines.values()}:
            for removed in remove_abandoned(folder):
                logger.info("removed %s, which a program that was killed has left unfinished", removed)

    def drafts(self) -> list[dict[str, Any]]:
        """Report every camera's draft; a damaged one has a `problem`."""
        found: list[dict[str, Any]] = []
        for camera in self._daemon.cameras:
            draft: dict[str, Any] | None = None
            problem: str | None = None
            try:
                draft = self.draft(camera)
            except DraftError as error:
                problem = str(error)
            found.append({"camera": camera, "draft": draft, "problem": problem})
        return found

    def draft(self, camera: str) -> dict[str, Any] | None:
        """Report the draft of a camera; None if there is none."""
        work = self._opened(camera)
        return work.status() if work else None

    def work(self, camera: str) -> DraftWork:
        """Return the work on the draft of a camera; raise DraftError if it has none."""
        work = self._opened(camera)
        if work is None:
            raise DraftError(f"camera {camera} has no draft: begin one, it may have been discarded meanwhile")
        return work

    def begin(self, camera: str, by: str) -> None:
        """Begin a draft; raise DraftError if the camera has one."""
        with self._lock:
            draft = Draft.begin(self._folder(camera), camera, by, self._bounds())
            self._works[camera] = DraftWork(draft, CameraLine(self._daemon, camera))
            logger.info("%s: a draft of a model is begun by %s", camera, by)

    def discard(self, camera: str, by: str) -> None:
        """Remove a draft with its images; the draft may be damaged."""
        with self._lock:
            work, folder = self._works.get(camera), self._folder(camera)
            if work is not None:
                work.refuse_while_going()
            images = len(list((folder / IMAGES).glob("*.png")))
            with self._recorded(by, "discard draft", camera, {"images": images}) if folder.exists() else nullcontext():
                if work is not None:
                    work.close()
                    del self._works[camera]
                discard(folder)
            logger.info("%s: the draft of a model is discarded by %s", camera, by)

    def change(self, camera: str, drawn: Mapping[str, Any], *, revision: int, by: str) -> None:
        """Set number of parts, region, ignored places and preset, the fields of `DraftSettings`."""
        try:
            meant = DraftSettings.model_validate(drawn)
        except ValidationError as error:
            raise DraftError(tell_invalid(error.errors())) from None
        work = self.work(camera)
        # The audit's "before" is right: a change of another revision than this one is refused.
        row = self._recorded(by, "change draft", camera, work.drawn.to_record(), meant.to_record())
        work.change(meant, revision, by, row)

    def begin_sending(self, camera: str, folder: str, images: int, by: str) -> dict[str, str]:
        """Note in the audit that somebody sends a folder of images; return the images sent before, see `Draft.sent`."""
        work = self.work(camera)
        after = f"{folder or 'files'}: {images} images for camera {camera}"
        with self._daemon.store.audited(by=by, action="send images", pipeline="", before=None, after=after):
            return work.begin_sending(by)

    def send(self, camera: str, data: bytes, file: str = "") -> dict[str, Any]:
        """Take the bytes of an image `file` as a good part, after `begin_sending`; see `DraftWork.send`."""
        return self._aside(self.work(camera).send, data, file)

    def try_image(self, camera: str, data: bytes) -> tuple[np.ndarray, ImageVerdict]:
        """Judge the bytes of an image file by the learnt model alone; see `DraftWork.try_image`."""
        return self._aside(self.work(camera).try_image, data)

    def move_image(self, camera: str, name: str, change: Literal["remove", "restore"], by: str) -> None:
        """Take an image out of the draft, or put one back."""
        what = "leave image out" if change == "remove" else "put image back"
        self.work(camera).move_image(name, change, self._recorded(by, what, camera, None, {"image": name}))

    def learn(self, camera: str, one_product: bool = False) -> None:
        """Start learning; one camera at a time, since it takes memory and a core. See `DraftWork.learn`."""
        with self._lock:
            busy = [name for name, work in self._works.items() if work.is_learning]
            if busy:
                raise DraftError(f"a model is being learnt for camera {busy[0]}: wait for it, or cancel it")
            self.work(camera).learn(one_product)

    def go(self, camera: str, model: str, pipeline: str | None, by: str) -> dict[str, Any]:
        """Put the learnt model beside the others, and into service in a pipeline, if one is named.

        Returns `model`, its folder, and `yaml`, the lines for the site file: empty if it needs none.
        Raises EdgeadError: nothing is learnt yet, the name is taken, or the pipeline refuses the model: no copy of it
            is left then.
        """
        if not self._going.acquire(blocking=False):
            raise DraftError("another model is being put into service: try again when that has ended")
        try:
            with ExitStack() as held:
                with self._lock:
                    learnt, drawn = held.enter_context(self.work(camera).finished())
                place = self._beside(camera, pipeline) / model
                copies = not _is_there(learnt, place)
                after = {"model": str(place), "camera": camera, **drawn}
                held.enter_context(
                    self._daemon.store.audited(
                        by=by, action="commission model", pipeline=pipeline or "", before=None, after=after
                    )
                )
                if copies:
                    _copy(learnt, place)
                if pipeline is not None:
                    try:
                        judging = current(self._daemon.pipelines, pipeline)
                        judging.sign_own(place, by=by)
                        judging.swap(place, by=by)
                    except EdgeadError:
                        if copies:
                            shutil.rmtree(place, ignore_errors=True)
                        raise
        finally:
            self._going.release()
        section = self._daemon.site.pipelines.get(pipeline) if pipeline else None
        stays = section is not None and section.commissioned
        return {"model": str(place), "yaml": "" if stays else self._yaml(camera, pipeline, place)}

    def close(self) -> None:
        """End collecting and learning; drafts stay."""
        with self._lock:
            works = list(self._works.values())
        self._closed = True
        self._sending.shutdown(wait=False, cancel_futures=True)
        for work in works:
            work.close()

    def _aside(self, work: Callable[..., T], *given: Any) -> T:
        """Run work with images in another thread and return its result: verdicts do not wait for it."""
        try:
            return self._sending.submit(work, *given).result()
        except (CancelledError, RuntimeError) as error:
            if self._closed:
                raise NotNowError("the daemon ends") from error
            raise

    def _recorded(self, by: str, action: str, camera: str, before: Any, after: Any = None) -> Row:
        """Make the audit's row of a change of a draft, written when the context is entered."""
        before, after = ({"camera": camera, **of} if of else None for of in (before, after))
        row: Row = self._daemon.store.audited(by=by, action=action, pipeline="", before=before, after=after)
        return row

    def _beside(self, camera: str, pipeline: str | None) -> Path:
        """Return the folder that holds a pipeline's model; without a pipeline, another's, preferably of this camera."""
        sections = self._daemon.site.pipelines
        if pipeline is None:
            of_camera = [name for name, section in sections.items() if section.camera == camera]
            pipeline = (of_camera or list(sections))[0]
        elif pipeline not in sections or pipeline not in self._daemon.pipelines:
            raise DraftError(f"there is no pipeline {pipeline}, known are {', '.join(sections)}")
        elif sections[pipeline].camera != camera:
            raise DraftError(
                f"pipeline {pipeline} judges camera {sections[pipeline].camera}, the model is of camera {camera}: "
                "choose another pipeline"
            )
        return sections[pipeline].model.absolute().parent.resolve()

    def _yaml(self, camera: str, pipeline: str | None, place: Path) -> str:
        name, cameras = pipeline or "NAME", ""
        if pipeline is None and self._daemon.site.cameras[camera].uri == "request:":
            # Of its own: images that are sent to one camera are judged by all of its pipelines.
            camera, cameras = name, f'cameras:\n  {name}:\n    uri: "request:"\n'
        return f"{cameras}pipelines:\n  {name}:\n    camera: {camera}\n    model: {place}\n"

    def _opened(self, camera: str) -> DraftWork | None:
        with self._lock:
            if camera not in self._works:
                draft = Draft.open(self._folder(camera), self._bounds())
                if draft is None:
                    return None
                self._works[camera] = DraftWork(draft, CameraLine(self._daemon, camera))
            return self._works[camera]

    def _folder(self, camera: str) -> Path:
        return self._daemon.site.store.folder / FOLDER / camera

    def _bounds(self) -> Bounds:
        return Bounds(free_mib=self._daemon.site.store.free_mib)


def _is_there(learnt: Path, place: Path) -> bool:
    """Return whether this same model is at `place`, as after a kill; raise DraftError if another model is there.

    A signature does not make it another model: the manifest's hash does not cover signatures.
    """
    if not os.path.lexists(place):
        return False
    wanted = read_manifest(learnt).manifest_sha256
    try:
        is_same = Artifact.load(place).manifest.manifest_sha256 == wanted
    except ArtifactError:
        is_same = False
    if not is_same:
        raise DraftError(f"there is a model {place.name} in {place.parent} already: choose another name")
    return True


def _copy(model: Path, place: Path) -> None:
    try:
        with new_artifact(place) as unfinished:
            shutil.copytree(model, unfinished, dirs_exist_ok=True)
            try:
                Artifact.load(unfinished)
            except ArtifactError:
                raise DraftError(f"the model in {model} is not whole any more: learn again") from None
    except OSError as error:
        raise DraftError(f"{place} cannot be written: {error.strerror or error}; free some space") from error
