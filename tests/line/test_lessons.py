"""Lessons of the daemon: one at a time, whole or not there, accepted into the model's place and back."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command_line import run_here
from fakes import content, edit_manifest
from patience import wait_until
from test_evidence import open_store
from verdicts import Line

import edgead.line.web
from edgead.artifact.earlier_versions import bring_back, earlier_versions, keep_and_replace
from edgead.artifact.folder import Artifact
from edgead.artifact.kinds import LEAST_BAD
from edgead.errors import SettingsError
from edgead.line.daemon.active_model import ActiveModel
from edgead.line.daemon.teaching.lesson_process import LessonOrder, LessonProcess, LessonResult, ended
from edgead.line.daemon.teaching.lessons import Lessons
from edgead.line.daemon.thresholds import KeptThresholds
from edgead.line.site.models import ModelsSection
from edgead.line.site.schema import PipelineSection
from edgead.types import Part

TINY_MODEL = Path(__file__).parents[1] / "fixtures" / "tiny_model"


def sha256_of(model: Path) -> str:
    return Artifact.load(model).manifest.manifest_sha256


class Slot:
    """A pipeline of which only the model counts."""

    def __init__(self, model: Path):
        self.model, self.loaded, self.thresholds = model, sha256_of(model), {"review": 0.25, "reject": 0.5}

    def status(self) -> SimpleNamespace:
        return SimpleNamespace(model=str(self.model), model_sha256=self.loaded, thresholds=self.thresholds)

    @property
    def slot(self) -> Any:
        return self

    def carry_thresholds(self, taught: Artifact) -> None:
        """Nobody has set any."""

    def swap(self, model: Path, *, by: str) -> None:
        self.loaded = sha256_of(model)


class World:
    """A store with marked parts, a pipeline with a model, and its lessons."""

    def __init__(self, folder: Path, store: Any):
        self.folder, self.store = folder, store
        self.model = Path(shutil.copytree(TINY_MODEL, folder / "model"))
        self.slots = {"caps": Slot(self.model)}
        self.section = SimpleNamespace(recipes={"left": None})
        self.site: Any = SimpleNamespace(
            pipelines={"caps": self.section},
            store=SimpleNamespace(folder=folder / "evidence"),
            limits=SimpleNamespace(lesson_s=60.0),
            models=ModelsSection(),
        )
        self.ids: list[str] = []

    def judge(self, opinion: str | None, part: Part | None = None) -> str:
        frame, verdict = self.line.part(0.9)
        frame = frame if part is None else replace(frame, part=part)
        self.store.add(frame, verdict)
        self.store.keep(frame, verdict)
        if opinion:
            self.store.marks.mark(frame.id, opinion, by="anna")
        return frame.id

    line = Line()

    def lessons(self) -> Lessons:
        made = Lessons(lambda: self.site, lambda: self.slots, lambda: self.store)
        made.open()
        return made

    @property
    def left(self) -> list[str]:
        return [path.name for path in self.folder.iterdir() if ".lesson." in path.name]


def teach_quickly(process: LessonProcess, task: LessonOrder, within_s: float) -> LessonResult:
    """Make a draft as the process does, without learning anything."""
    shutil.copytree(task.model, task.output)
    edit_manifest(task.output, lambda content: content.update(training={"taught": [str(path) for path in task.good]}))
    return LessonResult(report={"before": {}, "after": {}})


@pytest.fixture
def world(tmp_path, monkeypatch) -> Iterator[World]:
    monkeypatch.setattr(LessonProcess, "run", teach_quickly)
    with closing(open_store(tmp_path / "evidence")) as store:
        yield World(tmp_path, store)


def ready(world: World, *, by: str = "ben") -> Lessons:
    lessons = world.lessons()
    lessons.start("caps", [world.judge("good")], by=by)
    wait_until(lambda: lessons.all()[0].state == "ready")
    return lessons


def test_bad_parts_alone_are_taught_from_three_on(world):
    lessons = world.lessons()
    for _ in range(2):
        world.judge("bad")
    with pytest.raises(SettingsError, match="caps: 2 parts with an image are marked bad: choose .* or mark 3"):
        lessons.start("caps", [], by="ben")
    assert lessons.all() == [] and world.left == []
    world.judge("bad")
    lessons.start("caps", [], by="ben")
    wait_until(lambda: lessons.all()[0].state == "ready")
    assert (lessons.all()[0].good, lessons.all()[0].bad) == ((), 3)


def test_the_page_asks_for_as_many_bad_parts_as_a_lesson_takes():
    script = Path(edgead.line.web.__file__).parent / "page" / "teach.js"
    assert f"const LEAST_BAD = {LEAST_BAD};" in script.read_text("utf-8")


def test_a_lesson_is_compared_by_the_limits_in_force(world, monkeypatch):
    asked: list[LessonOrder] = []
    monkeypatch.setattr(
        LessonProcess, "run", lambda self, task, within_s: asked.append(task) or LessonResult(reason="x")
    )
    world.lessons().start("caps", [world.judge("good")], by="ben")
    wait_until(lambda: asked)
    assert asked[0].in_force == world.slots["caps"].thresholds


@pytest.mark.parametrize("reason", ["", "a lamp was new"])
def test_the_command_takes_the_words_of_a_lesson(tmp_path, reason):
    model, bad = tmp_path / "none", [tmp_path / "bad.png"]
    limits = {"review": -0.25, "reject": 0.5} if reason else None
    places = tmp_path / "out", tmp_path / "sheet.jpg"
    task = LessonOrder(model, [tmp_path / "good.png"], bad, *places, "anna", reason, limits)
    ended = run_here(*task.arguments)
    assert ended.returncode == 2 and str(model) in ended.stderr and "no such" in ended.stderr


def test_a_process_whose_daemon_was_killed_before_it_began_ends():
    program = "from edgead.process.background_process import stay_behind; stay_behind(0); print('on')"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ended.returncode == 1 and ended.stdout == "" and "is gone" in ended.stderr


def test_an_accepted_lesson_takes_the_models_place_and_can_be_rolled_back(world):
    first, files = sha256_of(world.model), content(world.model)
    lessons = ready(world)
    assert content(world.model) == files and len(world.left) == 1
    lessons.accept("caps", by="ben")
    taught = sha256_of(world.model)
    assert world.slots["caps"].loaded == taught != first
    assert content(earlier_versions(world.model)[-1]) == files
    assert world.left == [] and lessons.all() == [] and world.lessons().all() == []
    assert [row["action"] for row in world.store.audit(limit=2)] == ["accept lesson", "teach"]
    for wanted in (first, taught, first):  # back, forth, and back again
        bring_back(world.model, wanted)
        assert sha256_of(world.model) == wanted and len(earlier_versions(world.model)) == 1
    assert content(world.model) == files
    bring_back(world.model, "0" * 64)  # is no version of it
    assert sha256_of(world.model) == first


@pytest.mark.parametrize("linked", [True, False])
@pytest.mark.parametrize("refuses", ["swap", "carry_thresholds"])
def test_a_taught_model_that_is_refused_changes_nothing(world, monkeypatch, refuses, linked):
    if linked:
        world.model.symlink_to(world.model.rename(world.folder / "elsewhere"))
    files, loaded = content(world.model), world.slots["caps"].loaded
    lessons = ready(world)
    taught = content(world.folder / world.left[0])

    def refuse(*_: Any, **__: Any) -> None:
        raise SettingsError("self-test failed")

    with monkeypatch.context() as patch:
        patch.setattr(Slot, refuses, refuse)
        with pytest.raises(SettingsError, match="self-test failed"):
            lessons.accept("caps", by="ben")
    assert world.model.is_symlink() == linked and world.slots["caps"].loaded == loaded
    assert content(world.model) == files and earlier_versions(world.model) == []
    assert content(world.folder / world.left[0]) == taught and lessons.all()[0].state == "ready"  # may be tried again
    lessons.accept("caps", by="ben")
    assert sha256_of(world.model) == world.slots["caps"].loaded != loaded


def test_a_model_that_was_changed_meanwhile_stays(world):
    lessons = ready(world)
    edit_manifest(world.model, lambda content: content.update(training={"other": 1}))
    files = content(world.model)
    with pytest.raises(SettingsError, match="was changed since the lesson began: discard"):
        lessons.accept("caps", by="ben")
    assert content(world.model) == files
    lessons.discard("caps", by="ben")
    assert world.left == [] and world.store.audit(limit=1)[0]["action"] == "discard lesson"
    with pytest.raises(SettingsError, match="there is no lesson"):
        lessons.accept("caps", by="ben")


@pytest.mark.parametrize("linked", [True, False])
def test_a_lesson_holds_its_images_though_the_store_removes_them(world, monkeypatch, linked):
    """Its quota may do so between start and reading."""
    begun, removed = threading.Event(), threading.Event()
    found: list[bytes] = []

    def run(process: LessonProcess, task: LessonOrder, within_s: float) -> LessonResult:
        begun.set()
        assert removed.wait(30)
        found.extend(path.read_bytes() for path in (*task.good, *task.bad))
        return teach_quickly(process, task, within_s)

    def no_links(*_: object) -> None:
        raise PermissionError(errno.EPERM, "the file system has none")

    monkeypatch.setattr(LessonProcess, "run", run)
    if not linked:
        monkeypatch.setattr(os, "link", no_links)
    lessons, good, bad = world.lessons(), world.judge("good"), world.judge("bad")
    images = [world.store.frame(id, "caps") for id in (good, bad)]
    contents = [image.read_bytes() for image in images]
    lessons.start("caps", [good], by="ben")
    assert begun.wait(30)
    for image in images:
        shutil.rmtree(image.parent)
    removed.set()
    wait_until(lambda: lessons.all()[0].state != "running")
    assert (lessons.all()[0].state, found) == ("ready", contents)
    assert [path.name for path in (world.folder / "evidence" / "lessons").iterdir()] == ["caps.json"]


def test_a_lesson_of_an_image_that_is_gone_does_not_begin(world, monkeypatch):
    lessons, id = world.lessons(), world.judge("good")
    image = world.store.frame(id, "caps")
    monkeypatch.setattr(world.store, "frame", lambda *_: image)
    image.unlink()
    with pytest.raises(SettingsError, match="has just removed images of chosen parts"):
        lessons.start("caps", [id], by="ben")
    assert lessons.all() == [] and world.left == [] and world.store.audit(limit=1)[0]["action"] == "teach, undone"
    assert list((world.folder / "evidence" / "lessons").iterdir()) == []


def test_a_part_of_another_format_is_not_taught(world):
    frame, verdict = world.line.part(0.9)
    verdict = replace(verdict, other_format="proportions")
    world.store.add(frame, verdict)
    world.store.keep(frame, verdict)
    world.store.marks.mark(frame.id, "good", by="anna")
    with pytest.raises(
        SettingsError, match=r"another format than the model learnt \(proportions\).*set the camera back"
    ):
        world.lessons().start("caps", [frame.id], by="ben", reason="because")


def test_a_restart_takes_up_what_is_whole_and_removes_the_rest(world):
    ready(world)
    again = world.lessons()
    assert [lesson.state for lesson in again.all()] == ["ready"] and len(world.left) == 1
    shutil.rmtree(world.folder / world.left[0] / "model")
    assert world.lessons().all() == [] and world.left == []
    file = world.folder / "evidence" / "lessons" / "caps.json"
    assert not file.exists()
    file.write_text("half of it")
    assert world.lessons().all() == [] and not file.exists()


def test_one_lesson_at_a_time_which_ends_when_it_is_discarded(world, monkeypatch):
    def run(process: LessonProcess, task: LessonOrder, within_s: float) -> LessonResult:
        wait_until(lambda: process.stopped)
        return LessonResult(reason="ended")

    monkeypatch.setattr(LessonProcess, "run", run)
    lessons, id = world.lessons(), world.judge("good")
    lessons.start("caps", [id], by="ben")
    with pytest.raises(SettingsError, match="one at a time"):
        lessons.start("caps", [id], by="ben")
    with pytest.raises(SettingsError, match="is running: there is nothing to accept"):
        lessons.accept("caps", by="ben")
    lessons.discard("caps", by="ben")
    assert lessons.all() == [] and world.left == []
    lessons.start("caps", [id], by="ben")
    lessons.close()
    assert world.lessons().all() == [] and world.left == []  # what was under way at the end is gone


def test_only_marked_parts_of_this_model_are_taught(world):
    lessons = world.lessons()
    good, bad, unmarked = world.judge("good"), world.judge("bad"), world.judge(None)
    other = world.judge("good", Part(recipe="left"))
    for ids, refusal in (
        ([bad], "no part of caps with that id is marked good"),
        ([unmarked], "is marked good"),
        (["missing"], "is marked good"),
        ([other], "was judged by the model of the recipe left"),
        ([good] * 201, "at most 200"),
    ):
        with pytest.raises(SettingsError, match=refusal):
            lessons.start("caps", ids, by="ben")
    world.slots["lids"] = Slot(world.model)
    with pytest.raises(SettingsError, match="caps and lids judge by the same model"):
        lessons.start("caps", [good], by="ben")
    assert lessons.all() == [] and world.left == [] and world.store.audit(limit=1)[0]["action"] == "mark_good"


def test_what_the_process_is_given_and_how_its_end_is_read(tmp_path):
    task = LessonOrder(tmp_path / "m", [Path("-x/frame.png")], [Path("b.png")], Path("o"), Path("s"), "--by", "--why")
    words = task.arguments
    assert words[words.index("--") :] == ["--", str(tmp_path / "m"), "-x/frame.png"]
    assert words[words.index("--bad") + 1] == "b.png" and words[words.index("--reason") + 1] == "--why"
    words = replace(task, in_force={"reject": 0.5, "review": -0.25}).arguments
    assert words[words.index("--in-force") :][1:3] == ["-0.25", "0.5"]
    lesson: Any = SimpleNamespace(model_copy=lambda update: update)
    part = {"image": "shelf/ID/frame.png", "score": 0.9}
    report = {when: {"fp32": {"parts": [part], "reject_threshold": 1}} for when in ("before", "after")}
    done: Any = ended(lesson, LessonResult(report=report))
    assert done["state"] == "ready" and done["report"]["after"]["fp32"]["parts"][0]["verdict"] == "ID"
    scores = {"score": 0.9, "typical": 0.25, "limit": 0.5}
    refused = {"refused": "no", "doubtful": [{"image": "shelf/ID.2/frame.png", **scores, "doubt": "?"}]}
    (doubt,) = ended(lesson, LessonResult(refusal=refused))["doubtful"]  # type: ignore[misc]
    assert (doubt.verdict, doubt.of_limit, doubt.scaled_score) == ("ID", 1.8, 260)
    assert ended(lesson, LessonResult(reason="full")) == {"state": "failed", "reason": "full"}


def test_a_process_that_fails_or_takes_too_long_says_so(tmp_path, monkeypatch):
    task = LessonOrder(tmp_path / "none", [tmp_path / "none.png"], [], tmp_path / "o", tmp_path / "s", "ben", "")
    failing = "import sys; print('note: x'); print('error: no such\\nmodel', file=sys.stderr); sys.exit(2)"
    monkeypatch.setattr("edgead.line.daemon.teaching.lesson_process._PROGRAM", failing)
    assert LessonProcess().run(task, 60).reason == "no such\nmodel"
    monkeypatch.setattr("edgead.line.daemon.teaching.lesson_process._PROGRAM", "import time; time.sleep(60)")
    assert LessonProcess().run(task, 0.2).reason.startswith("not ready within 0.2 s")


def test_the_lines_of_a_process_are_counted_while_it_runs(monkeypatch):
    printing = "import time; print(flush=True); print(flush=True); time.sleep(60)"
    monkeypatch.setattr("edgead.line.daemon.teaching.lesson_process._PROGRAM", printing)
    process = LessonProcess()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(process.output, "none", [], 60)
        wait_until(lambda: process.lines == 2)
        process.stop()
        assert waiting.result()[1] == "\n\n"


def test_a_model_that_was_taught_where_it_lies_is_rolled_back_in_service_and_on_the_disk(tmp_path):
    model = Path(shutil.copytree(TINY_MODEL, tmp_path / "model"))
    first = sha256_of(model)
    slot = ActiveModel(
        "caps", PipelineSection(camera="top", model=model), KeptThresholds(tmp_path / "kept.json"), threads=1
    )
    slot.load()
    try:
        taught = Path(shutil.copytree(model, tmp_path / "taught"))
        edit_manifest(taught, lambda content: content.update(training={"taught": [1]}))
        keep_and_replace(model, taught)
        slot.swap(model)
        second = slot.model
        for wanted in (first, second, first):  # back, forth, and back again
            slot.roll_back()
            assert slot.model == sha256_of(model) == wanted and slot.self_test().passed
        slot.roll_back()
        slot.give_up()  # the taught one has failed: what is loaded next is the one before
        slot.load()
        assert slot.model == sha256_of(model) == first
    finally:
        slot.close()
