"""Kinds that begin over the API: real rejects of a real store, sorted in a process and named in a real model."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fake_daemon import FakeDaemon, FakePipeline, make_judged
from fakes import content
from http_side import client_of, daemon_with_store
from patience import wait_for, wait_until

from edgead import Detector
from edgead.artifact.earlier_versions import earlier_versions
from edgead.artifact.folder import Artifact
from edgead.artifact.identity import scored_alike
from edgead.detector.known_kinds import bank_sha256
from edgead.errors import SettingsError
from edgead.images.files import load_image
from edgead.line.daemon.teaching.heaps import Heaps
from edgead.line.daemon.teaching.lesson_process import LessonProcess
from edgead.line.daemon.teaching.lessons import Lessons
from edgead.unlabelled.sorting import worker

FRONT = "/api/pipelines/front"
BY = {"by": "Anna"}


@dataclass
class RealModel(FakePipeline):
    """A pipeline whose model is real: what it swaps to is opened, and may be refused."""

    refuses = False

    def __post_init__(self) -> None:
        self.loaded = Artifact.load(self.model).manifest.manifest_sha256

    def status(self) -> SimpleNamespace:
        said = super().status()
        said.model_sha256 = self.loaded
        said.knows_kinds = Artifact.load(self.model).manifest.kinds is not None
        return said

    @property
    def slot(self) -> Any:
        return self

    def carry_thresholds(self, taught: Artifact) -> None:
        """Nobody has set any."""

    def swap(self, model: Path, *, by: str) -> None:
        if self.refuses:
            raise SettingsError("self-test failed")
        self.loaded = Artifact.load(model).manifest.manifest_sha256


@contextmanager
def daemon_with_rejects(folder: Path, model: Path, line_data: Path, most: int = 100):
    """Give a daemon with a link to a real model, and in its store all images of defects that it rejects."""
    with daemon_with_store(folder, before=0, after=0) as daemon, Detector.load(model) as detector:
        place = daemon.pipelines["front"].model
        shutil.rmtree(place)
        shutil.copytree(model, folder / "linked")
        place.symlink_to(folder / "linked")
        daemon.pipelines["front"] = RealModel(place)
        daemon.lessons = Lessons(lambda: daemon.site, lambda: daemon.pipelines, lambda: daemon.store)
        daemon.heaps = Heaps(daemon)
        images = [load_image(path) for path in sorted(line_data.glob("test/*/*.jpg"))]
        rejects = [image for image in images if detector.predict(image).decision == "reject"][:most]
        for number, image in enumerate(rejects):
            frame, verdict = make_judged(number, 0.9)
            frame = replace(frame, image=image)
            assert daemon.store.add(frame, verdict)
            daemon.store.keep(frame, verdict)
        wait_until(lambda: daemon.store.status()["images_written"] == 2 * len(rejects))
        yield daemon, len(rejects)
        daemon.heaps.close()


def sorted_heaps(client: Any) -> list[list[str]]:
    assert client.post(f"{FRONT}/heaps", params={"hours": 8}).json()["state"] == "running"
    return ready_heaps(client)


def ready_heaps(client: Any) -> list[list[str]]:
    found = wait_for(lambda: (said := client.get(f"{FRONT}/heaps").json())["state"] != "running" and said, "heaps")
    assert (found["state"], found["reason"]) == ("ready", ""), found
    return [[reject["verdict"] for reject in heap] for heap in found["heaps"]]


def test_rejects_are_sorted_and_named_and_the_model_says_their_kind(tmp_path, trained_model, line_data):
    with daemon_with_rejects(tmp_path, trained_model, line_data) as (daemon, count), client_of(daemon) as client:
        heaps, model = sorted_heaps(client), daemon.pipelines["front"].model
        ids = [id for heap in heaps for id in heap]
        said = client.get(f"{FRONT}/heaps").json()
        assert len(set(ids)) == len(ids) == count - said["left_out"] >= 4
        assert len(said["clear"]) == len(heaps) and None not in said["clear"]
        assert {reject["image"] for heap in said["heaps"] for reject in heap} == {"heat.jpg"}
        named = {"scratch": ids[:2], "dent": ids[2:]}
        before = content(model)

        daemon.pipelines["front"].refuses = True
        refused = client.post(f"{FRONT}/heaps/name", json={"kinds": named, **BY})
        assert (refused.status_code, refused.json()["detail"]) == (409, "self-test failed")
        assert model.is_symlink() and content(model) == before and earlier_versions(model) == []
        assert [row["action"] for row in client.get("/api/audit").json()] == ["name kinds, undone", "name kinds"]

        daemon.pipelines["front"].refuses = False
        assert client.post(f"{FRONT}/heaps/name", json={"kinds": named, **BY}).status_code == 200
        assert client.get(f"{FRONT}/heaps").json()["state"] == "none"
        row = client.get("/api/audit").json()[0]
        assert (row["action"], row["by"]) == ("name kinds", "Anna (127.0.0.1)")
        assert (row["before"], row["after"]) == ({}, {"scratch": 2, "dent": len(ids) - 2})
        assert content(earlier_versions(model)[0]) == before
        now, then = (Artifact.load(path).manifest for path in (model, earlier_versions(model)[0]))
        assert scored_alike(model, now, now.precision) == [now.manifest_sha256, then.manifest_sha256]
        assert now.manifest_sha256 != then.manifest_sha256, "parts marked before kinds were named still test a limit"
        assert daemon.pipelines["front"].loaded == Artifact.load(model).manifest.manifest_sha256
        with Detector.load(model) as detector:
            path = daemon.store.image(ids[0], "frame.jpg", pipeline="front")
            assert detector.predict(load_image(path)).kind is not None
        kinds = Artifact.load(model).manifest.kinds
        assert kinds.counts() == {"scratch": 2, "dent": len(ids) - 2}


def test_the_process_that_sorts_prints_a_line_for_each_image_before_its_result(
    trained_model, line_data, monkeypatch, capsys
):
    images = sorted(map(str, line_data.glob("test/*/*.jpg")))
    monkeypatch.setattr("sys.argv", ["worker", str(trained_model), *images])
    worker.main()
    *lines, result = capsys.readouterr().out.splitlines()
    assert lines == [""] * len(images)
    assert sum(map(len, json.loads(result)["heaps"])) + json.loads(result)["left_out"] == len(images)


def test_new_heaps_join_the_kinds_that_the_model_knows_under_the_names_that_people_see(
    tmp_path, trained_model, line_data
):
    with daemon_with_rejects(tmp_path, trained_model, line_data) as (daemon, _), client_of(daemon) as client:
        model = daemon.pipelines["front"].model
        ids = [id for heap in sorted_heaps(client) for id in heap]
        first = {"scratch": ids[:1], "dent": ids[1:2]}
        assert client.post(f"{FRONT}/heaps/name", json={"kinds": first, **BY}).status_code == 200
        daemon.judge(99, 0.9, "scratch")
        daemon.store.kinds.rename("front", "scratch", "deep scratch", by="Anna")
        wait_until(lambda: daemon.store.status()["images_waiting"] == 0)
        ids = [id for heap in sorted_heaps(client) for id in heap]
        more = {"deep scratch": ids[2:3], "hole": ids[3:4]}
        assert client.post(f"{FRONT}/heaps/name", json={"kinds": more, **BY}).status_code == 200
        counts = Artifact.load(model).manifest.kinds.counts()
        assert set(counts) <= {"scratch", "dent", "hole"} and {"scratch", "hole"} <= set(counts)
        assert bank_sha256(Artifact.load(model).manifest) == Artifact.load(model).manifest.kinds.bank_sha256


def test_what_cannot_be_sorted_or_named_is_refused_in_words(tmp_path, trained_model, line_data, monkeypatch):
    def refused(path: str, **asked: Any) -> str:
        answer = client.post(f"{FRONT}/{path}", **asked)
        assert answer.status_code == 409, answer.text
        return answer.json()["detail"]

    naming = {"kinds": {"dent": ["0" * 8 + "-0000-7000-8000-" + "0" * 12]}, **BY}
    with daemon_with_rejects(tmp_path, trained_model, line_data, 3) as (daemon, _), client_of(daemon) as client:
        assert "no heaps of its model as it is now" in refused("heaps/name", json=naming)
        assert "0 rejects of that time have an image" in refused("heaps", params={"hours": 1e-9})
        good = daemon.store.verdicts(limit=1)[0]["id"]
        assert client.post(f"/api/verdicts/{good}/false-reject", json={"pipeline": "front", **BY}).status_code == 200
        assert "front: 2 rejects of that time have an image" in refused("heaps")
        daemon.store.marks.take_back(good, by="Anna")

        def wait(process: LessonProcess, module: str, words: list[str], within_s: float) -> Any:
            wait_until(lambda: process.stopped)
            raise SettingsError("stopped")

        with monkeypatch.context() as patch:
            patch.setattr(LessonProcess, "output", wait)
            assert client.post(f"{FRONT}/heaps").json()["state"] == "running"
            assert "rejects of front are being sorted: one at a time" in refused("heaps")
            assert client.post(f"{FRONT}/heaps/discard").json()["state"] == "none"
        said = '{"problem": "the model cannot tell kinds apart: train patchcore"}'
        monkeypatch.setattr(LessonProcess, "output", lambda *_: (0, said, ""))
        client.post(f"{FRONT}/heaps")
        found = wait_for(lambda: (one := client.get(f"{FRONT}/heaps").json())["state"] != "running" and one, "an end")
        assert (found["state"], found["reason"]) == ("failed", "the model cannot tell kinds apart: train patchcore")
        monkeypatch.setattr(LessonProcess, "output", lambda *_: (-9, "", "Killed"))
        client.post(f"{FRONT}/heaps")
        found = wait_for(
            lambda: (one := client.get(f"{FRONT}/heaps").json())["reason"].startswith("the proc") and one, "a refusal"
        )
        assert found["reason"] == "the process that sorts ended early: the log says why"
        daemon.pipelines["front"].loaded = "0" * 64
        assert "is not what front judges by" in refused("heaps")


def test_a_reject_in_two_heaps_and_a_reserved_name_are_refused(tmp_path, trained_model, line_data):
    with daemon_with_rejects(tmp_path, trained_model, line_data) as (daemon, _), client_of(daemon) as client:
        ids = [id for heap in sorted_heaps(client) for id in heap]
        twice = {"dent": ids, "hole": ids[:1]}
        answer = client.post(f"{FRONT}/heaps/name", json={"kinds": twice, **BY})
        assert answer.status_code == 409 and "is in no heap, or in two" in answer.json()["detail"]
        reserved = {"unknown kind": ids}
        answer = client.post(f"{FRONT}/heaps/name", json={"kinds": reserved, **BY})
        assert answer.status_code == 409 and "cannot name a kind" in answer.json()["detail"]


def test_a_daemon_of_the_page_alone_says_who_asked(tmp_path):
    daemon = FakeDaemon(tmp_path)
    id = daemon.judge(0, 0.9)
    with client_of(daemon) as client:
        none = {"state": "none", "reason": "", "images": 0, "done": 0, "heaps": [], "clear": [], "left_out": 0}
        assert client.get(f"{FRONT}/heaps").json() == none
        client.post(f"{FRONT}/heaps/name", json={"kinds": {" dent ": [id]}, **BY})
        client.post(f"{FRONT}/heaps/discard")
        assert client.post("/api/pipelines/back/heaps").status_code == 404
    assert daemon.heaps.calls == [("name", "front", {"dent": [id]}, "Anna (127.0.0.1)"), ("discard", "front")]
