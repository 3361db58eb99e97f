"""What the API refuses of a draft, and what the process that learns gives back."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import yaml
from fake_daemon import FakeDaemon
from fakes import edit_manifest
from http_side import client_of, daemon_with_store
from patience import wait_for
from test_draft import contents, part

from edgead.adapt.commission import worker
from edgead.adapt.commission.worker import learn_order
from edgead.artifact.folder import Artifact
from edgead.dataset.places import read_ignored
from edgead.detector import Detector
from edgead.errors import SettingsError
from edgead.images.files import decode_image, write_image
from edgead.line.daemon.commission import Commissioning, DraftError, draft_work, drafts, trial
from edgead.line.daemon.commission.draft import Bounds
from edgead.line.daemon.commission.draft_work import DraftWork, LearningProcess
from edgead.line.evidence.database import StoreAwayError
from edgead.synthetic.line import conveyor
from edgead.types import scaled_score

ONE = "/api/commission/conveyor"


@pytest.fixture
def daemon(tmp_path):
    daemon = FakeDaemon(tmp_path)
    daemon.judge(0, 0.1)
    return daemon


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    daemon = FakeDaemon(tmp_path_factory.mktemp("api"))
    daemon.judge(0, 0.1)
    with client_of(daemon) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "detail"),
    [
        ("GET", "/api/commission/other", None, 404, "known are conveyor"),
        ("GET", ONE, None, 404, "has no draft: begin one"),
        ("POST", f"{ONE}/take", None, 409, "has no draft"),
        ("POST", f"{ONE}/learn", None, 409, "has no draft"),
        ("POST", ONE, {"by": ""}, 422, "by"),
        ("POST", f"{ONE}/collect", {"mode": "sometimes"}, 422, "mode"),
        ("POST", f"{ONE}/go", {"model": "../first", "by": "Anna"}, 422, "model"),
        ("GET", f"{ONE}/images/000001.png", None, 409, "has no draft"),
    ],
)
def test_what_cannot_be_is_refused_in_words(client, method, path, body, status, detail):
    answer = client.request(method, path, json=body)
    assert answer.status_code == status and detail in answer.json()["detail"]


def test_a_draft_by_the_api(client):
    begun = client.post(ONE, json={"by": "Anna"}).json()
    assert begun["begun_by"] == "Anna (127.0.0.1)" and begun["frame_width"] == 160 and begun["rate"] is None
    assert client.post(ONE, json={"by": "Ben"}).status_code == 409
    assert client.post(f"{ONE}/take").json() == {"image": "000001.png", "like": None, "images": 1}
    assert "no new frame" in client.post(f"{ONE}/take").json()["detail"]
    drawn = {"wanted": 30, "region": [0, 0, 50, 40], "ignored": [[1, 2, 3, 4]], "revision": 0, "by": "Anna"}
    assert client.put(ONE, json=drawn).json()["revision"] == 1
    assert "Anna (127.0.0.1) has changed this draft" in client.put(ONE, json=drawn).json()["detail"]
    for wrong in ({"wanted": 5}, {"region": [0, 0, 5000, 40]}, {"ignored": [[1, 2]]}):
        assert client.put(ONE, json={**drawn, **wrong, "revision": 1}).status_code == 409
    image = client.get(f"{ONE}/images/000001.png?width=80")
    assert image.headers["content-type"] == "image/jpeg" and image.content.startswith(b"\xff\xd8")
    assert client.get(f"{ONE}/maps/000001.png").status_code == 404
    assert "at least 20" in client.post(f"{ONE}/learn").json()["detail"]
    assert client.post(f"{ONE}/images/000001.png/remove").json()["images"] == []
    assert client.post(f"{ONE}/discard", json={"by": "Anna"}).status_code == 200
    assert client.get("/api/commission").json() == [{"camera": "conveyor", "draft": None, "problem": None}]


def test_what_is_drawn_left_out_or_discarded_is_on_record(tmp_path):
    """In a real store, so that a refused change would be seen to have a row."""
    with daemon_with_store(tmp_path) as daemon, client_of(daemon) as client:
        client.post(ONE, json={"by": "Anna"})
        client.post(f"{ONE}/folder", json={"folder": "caps", "images": 2, "by": "Anna"})
        for number in range(2):
            client.post(f"{ONE}/images", content=png(number), headers={"Content-Type": "image/png"})
        drawn = {"wanted": 30, "region": [0, 0, 20, 20], "ignored": [[1, 2, 3, 4]], "revision": 0, "by": "Mallory"}
        first = "images/000001.png"
        steps = [
            (200, "PUT", "", drawn),
            (409, "PUT", "", {**drawn, "by": "Ben"}),  # of a revision that is no more
            (409, "PUT", "", {**drawn, "revision": 1, "region": [0, 0, 500, 20]}),
            (200, "POST", f"/{first}/remove", {"by": "Mallory"}),
            (409, "POST", f"/{first}/remove", {"by": "Ben"}),
            (200, "POST", f"/{first}/restore", None),  # as programs of before do
            (409, "POST", f"/{first}/restore", {"by": "Ben"}),
            (200, "POST", "/discard", {"by": "Mallory"}),
            (200, "POST", "/discard", {"by": "Ben"}),  # of none
        ]
        for status, method, path, body in steps:
            assert client.request(method, f"{ONE}{path}", json=body).status_code == status, path
        rows = client.get("/api/audit").json()[::-1]
    before = {"camera": "conveyor", "wanted": 60, "region": None, "ignored": []}
    after = {"camera": "conveyor", "wanted": 30, "region": "0,0,20,20", "ignored": ["1,2,3,4"]}
    image = {"camera": "conveyor", "image": "000001.png"}
    assert [(row["by"], row["action"], row["before"], row["after"]) for row in rows[1:]] == [
        ("Mallory (127.0.0.1)", "change draft", before, after),
        ("Mallory (127.0.0.1)", "leave image out", None, image),
        ("somebody (127.0.0.1)", "put image back", None, image),
        ("Mallory (127.0.0.1)", "discard draft", {"camera": "conveyor", "images": 2}, None),
    ]


def test_a_draft_that_cannot_be_put_on_record_stays_as_it_is(daemon, monkeypatch):
    desk = daemon.commissioning
    desk.begin("conveyor", "Anna")
    desk.work("conveyor")._draft.add(part(1))
    before = desk.draft("conveyor")

    @contextmanager
    def audited(**change):
        raise StoreAwayError("the audit cannot be written")
        yield

    monkeypatch.setattr(daemon.store, "audited", audited)
    for change in (
        lambda: desk.change("conveyor", {"wanted": 30}, revision=0, by="Ben"),
        lambda: desk.move_image("conveyor", "000001.png", "remove", "Ben"),
        lambda: desk.discard("conveyor", "Ben"),
    ):
        with pytest.raises(StoreAwayError):
            change()
        assert desk.draft("conveyor") == before


def png(number: int, size: tuple[int, int] = (24, 32), suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, part(number, size))[1].tobytes()


def test_a_folder_is_sent_and_gone_on_with(daemon):
    bytes_ = {"Content-Type": "application/octet-stream"}
    daemon.cameras["conveyor"].frame = None
    with client_of(daemon) as client:
        client.post(ONE, json={"by": "Anna"})
        refused = client.post(f"{ONE}/images", content=png(0), headers=bytes_)
        assert refused.status_code == 409 and "say first who does" in refused.json()["detail"]
        begun = client.post(f"{ONE}/folder", json={"folder": "caps/good", "images": 4, "by": "Anna"}).json()
        assert begun == {"sent": {}, "max_bytes": 32 << 20}
        assert daemon.store.changes[0]["action"] == "send images"
        assert daemon.store.changes[0]["by"] == "Anna (127.0.0.1)"
        assert daemon.store.changes[0]["after"] == "caps/good: 4 images for camera conveyor"
        for number in range(3):
            file = {"file": f"cap {number}.png"} if number else {}
            kind = {"Content-Type": "image/png"}
            sent = client.post(f"{ONE}/images", params=file, content=png(number), headers=kind)
            assert sent.json() == {"image": f"{number + 1:06d}.png", "like": None, "images": number + 1}
        again = client.post(f"{ONE}/images", content=png(1), headers=bytes_)
        assert again.json() == {"image": "000002.png", "like": None, "images": 3}
        like = client.post(f"{ONE}/images", content=png(1, suffix=".bmp"), headers=bytes_)
        assert like.json() == {"image": None, "like": "000002.png", "images": 3}
        assert client.post(f"{ONE}/images/000003.png/remove").json()["left_out"] == ["000003.png"]
        assert client.get(ONE).json()["files"] == {"000002.png": "cap 1.png", "000003.png": "cap 2.png"}
        assert client.get(f"{ONE}/images/000003.png").status_code == 200

    daemon.commissioning = Commissioning(daemon)  # started again
    with client_of(daemon) as client:
        begun = client.post(f"{ONE}/folder", json={"images": 1, "by": "Anna"}).json()
        assert begun["sent"][hashlib.sha256(png(0)).hexdigest()] == "000001.png"
        assert sorted(begun["sent"].values()) == ["000001.png", "000002.png", "000002.png", "000003.png"]
        assert client.post(f"{ONE}/images", content=png(2), headers=bytes_).json()["images"] == 2  # it was left out
        back = client.post(f"{ONE}/images/000003.png/restore").json()
        assert len(back["images"]) == 3 and back["left_out"] == [] and back["files"]["000003.png"] == "cap 2.png"


@pytest.mark.parametrize(
    ("content", "kind", "status", "detail"),
    [
        (b"no image at all", "image/png", 422, "not an image"),
        (b"", "image/png", 422, "the file is empty"),
        (png(7)[:-9], "image/png", 422, "truncated PNG"),
        (png(7), "text/plain", 415, "set Content-Type to image/... or application/octet-stream"),
        (png(7), "", 415, "set Content-Type"),
        (bytes((32 << 20) + 1), "image/png", 413, "more than 33554432 bytes"),
    ],
    ids=["text", "empty", "truncated", "form", "no kind", "long"],
)
def test_a_file_that_is_no_image_of_a_part_is_refused_in_words(folder_client, content, kind, status, detail):
    answer = folder_client.post(f"{ONE}/images", content=content, headers={"Content-Type": kind} if kind else {})
    assert answer.status_code == status and detail in answer.json()["detail"]
    assert folder_client.get(ONE).json()["images"] == ["000001.png"]


def test_files_of_another_size_are_taken_until_places_are_drawn(folder_client):
    as_png = {"Content-Type": "image/png"}
    assert folder_client.post(f"{ONE}/images", content=png(7, (30, 30)), headers=as_png).json()["images"] == 2
    draft = folder_client.get(ONE).json()
    assert (draft["frame_width"], draft["frame_height"]) == (32, 24)
    drawn = {"wanted": 60, "region": [0, 0, 16, 16], "revision": draft["revision"], "by": "Ben"}
    assert folder_client.put(ONE, json=drawn).status_code == 200
    answer = folder_client.post(f"{ONE}/images", content=png(8, (28, 28)), headers=as_png)
    found = "it has 28x28 pixels, the images of this draft have 32x24, on which places are drawn"
    assert answer.status_code == 422 and found in answer.json()["detail"]
    assert folder_client.post(f"{ONE}/images/000002.png/remove").json()["images"] == ["000001.png"]


@pytest.mark.parametrize("name", ["a\nb.png", "\x1b[2J.png", "a\u202egnp.exe", "a\x00.png"])
def test_a_name_that_commands_a_terminal_is_refused(folder_client, name):
    sent = {"content": png(9), "headers": {"Content-Type": "image/png"}, "params": {"file": name}}
    answers = [
        folder_client.post(f"{ONE}/images", **sent),
        folder_client.post(f"{ONE}/folder", json={"images": 1, "by": "M", "folder": name}),
    ]
    for answer in answers:
        assert answer.status_code == 422 and "cannot be printed" in answer.json()["detail"]
    assert folder_client.get(ONE).json()["images"] == ["000001.png"]


@pytest.mark.parametrize(
    ("number", "status", "detail"),
    [(errno.ENOSPC, 503, "No space left on device: free some space"), (errno.EIO, 500, "")],
)
def test_a_full_disk_is_said_wherever_it_is_met(folder_client, monkeypatch, number, status, detail):
    def full(*_: object) -> None:
        raise OSError(number, os.strerror(number), "somewhere")

    monkeypatch.setattr(folder_client.daemon.commissioning, "begin_sending", full)
    # The server ends the connection of a request that failed.
    answer = folder_client.post(f"{ONE}/folder", json={"images": 1, "by": "M"}, headers={"Connection": "close"})
    assert answer.status_code == status and detail in answer.json()["detail"]


def test_a_draft_that_is_full_takes_no_more(folder_client):
    desk = folder_client.daemon.commissioning
    desk.work("conveyor")._draft.bounds = Bounds(images=1, free_mib=0)
    answer = folder_client.post(f"{ONE}/images", content=png(8), headers={"Content-Type": "image/png"})
    assert answer.status_code == 409 and "as many as it may" in answer.json()["detail"]


def test_another_sites_page_sends_nothing(folder_client):
    for origin in ("http://elsewhere.example", "null"):
        headers = {"Content-Type": "image/png", "Origin": origin}
        assert folder_client.post(f"{ONE}/images", content=png(9), headers=headers).status_code == 403
        assert folder_client.post(f"{ONE}/folder", json={"images": 1, "by": "M"}, headers=headers).status_code == 403


@pytest.fixture(scope="module")
def folder_client(tmp_path_factory):
    """A client of a daemon with a draft of one image that was sent."""
    daemon = FakeDaemon(tmp_path_factory.mktemp("folder"))
    with client_of(daemon) as client:
        client.post(ONE, json={"by": "Anna"})
        client.post(f"{ONE}/folder", json={"images": 9, "by": "Anna"})
        client.post(f"{ONE}/images", content=png(0), headers={"Content-Type": "image/png"}).raise_for_status()
        client.daemon = daemon
        yield client


@pytest.fixture(scope="module")
def order(tmp_path_factory) -> dict:
    """An order to learn from twenty parts of the built-in line, small ones."""
    folder = tmp_path_factory.mktemp("order")
    images = [image[::2, ::2].copy() for image, _, _ in conveyor(3, 20, 0.0)]
    paths = [folder / "images" / f"{number:06d}.png" for number in range(20)]
    for path, image in zip(paths, images, strict=True):
        write_image(path, image)
    drawn = {"region": [20, 20, 220, 20, 220, 220, 20, 220], "ignored": [[30, 30, 20, 20]]}
    texts = {"images": [str(path) for path in paths], "data": "conveyor", "folder": str(folder / "learnt-1")}
    return {**texts, **drawn, "files": {}, "frame_size": [240, 240], "preset": "fast", "one_product": False}


@pytest.fixture(scope="module")
def learnt(order) -> Path:
    learn_order(order, lambda stage, done, total: None)
    return Path(order["folder"])


def test_what_was_learnt_shows_every_part_as_one_that_was_not(learnt):
    result = json.loads((learnt / "result.json").read_text())
    assert (result["learnt"], result["calibrated"], result["false_reject_rate"]) == (20, 20, 0.2)
    limits = Artifact.load(learnt / "model").graph().calibration
    scaled = sorted(part["scaled_score"] for part in result["parts"])
    assert scaled == pytest.approx([scaled_score(score, limits.typical, limits.reject) for score in limits.scores])
    assert result["preset"] == "fast" and result["groups"] == 0
    assert sorted(path.stem for path in (learnt / "maps").iterdir()) == sorted(
        part["name"].removesuffix(".png") for part in result["parts"]
    )
    spec = Artifact.load(learnt / "model").manifest.preprocessing
    assert spec.roi == (20, 20, 201, 201)
    ignored = read_ignored(["30,30,20,20"], (240, 240), "a part")
    assert set(ignored.polygons) < set(spec.ignored.polygons)  # beside all that lies outside of the polygon


@pytest.fixture
def work(daemon, learnt, order) -> DraftWork:
    """The draft of the daemon, from which a model was learnt."""
    return with_result(daemon, learnt, order)


def with_result(daemon: FakeDaemon, learnt: Path, order: dict) -> DraftWork:
    daemon.commissioning.begin("conveyor", "Anna")
    work = daemon.commissioning.work("conveyor")
    work._draft.add(part(1, (120, 160)))
    name = Path(order["folder"]).name
    shutil.copytree(learnt, work._draft.folder / name)
    work._draft.keep_result(name, work._draft.source)
    return work


def test_a_model_goes_beside_the_others_or_nowhere(daemon, work):
    desk = daemon.commissioning
    gone = desk.go("conveyor", "second", "front", "Anna")
    model = daemon.site.pipelines["front"].model.parent / "second"
    assert gone["model"] == str(model) and str(model) in gone["yaml"]
    assert daemon.pipelines["front"].calls == [("sign", model, "Anna"), ("swap", model, "Anna")]
    assert Artifact.load(model).manifest.training["data"] == "conveyor"
    edit_manifest(model, lambda content: content["training"].update(data="another line"))
    with pytest.raises(DraftError, match="choose another name"):
        desk.go("conveyor", "second", "front", "Anna")

    def refuses(model, *, by):
        raise SettingsError("too slow")

    daemon.pipelines["front"].swap = refuses
    before = contents(model.parent)
    with pytest.raises(SettingsError, match="too slow"):
        desk.go("conveyor", "third", "front", "Anna")
    assert contents(model.parent) == before
    assert "NAME:" in desk.go("conveyor", "fourth", None, "Anna")["yaml"]
    cameras = daemon.site.cameras
    cameras["conveyor"] = cameras["conveyor"].model_copy(update={"uri": "request:"})
    lines = yaml.safe_load(desk.go("conveyor", "fifth", None, "Anna")["yaml"])
    assert lines["cameras"] == {"NAME": {"uri": "request:"}} and lines["pipelines"]["NAME"]["camera"] == "NAME"
    daemon.store.changes.pop(0)
    row = daemon.store.changes[0]
    drawn = {"images": 1, "wanted": 60, "region": None, "ignored": [], "drawn_by": "Anna"}
    after = {"model": str(model.with_name("fourth")), "camera": "conveyor", **drawn}
    assert (row["action"], row["pipeline"], row["after"]) == ("commission model", "", after)
    work._draft.add(daemon.cameras["conveyor"].frame.image[::-1].copy())
    with pytest.raises(DraftError, match="have changed since the model was learnt: learn again"):
        desk.go("conveyor", "fifth", "front", "Anna")


def test_nobody_takes_a_draft_away_while_its_model_goes_into_service(daemon, work, monkeypatch):
    desk, refused = daemon.commissioning, []
    drawn = {"wanted": 30, "ignored": [[1, 2, 3, 4]]}
    others = (
        lambda: desk.discard("conveyor", "Ben"),
        lambda: desk.learn("conveyor"),
        lambda: desk.change("conveyor", drawn, revision=0, by="Ben"),
        lambda: desk.move_image("conveyor", "000001.png", "remove", "Ben"),
    )

    def copied(*arguments):
        for other in others:
            with pytest.raises(DraftError, match="is being put into service: try again") as problem:
                other()
            refused.append(problem)
        copy(*arguments)

    copy = drafts._copy
    monkeypatch.setattr(drafts, "_copy", copied)
    gone = desk.go("conveyor", "second", None, "Anna")
    assert len(refused) == len(others)
    Artifact.load(gone["model"])
    desk.discard("conveyor", "Ben")
    assert desk.draft("conveyor") is None


def test_the_learnt_model_is_tried_and_nothing_of_it_stays(tmp_path, learnt, order, monkeypatch):
    """In a real store, whose rows would show an image that counts."""
    as_png = {"Content-Type": "image/png"}
    (bad, _, _), *_ = conveyor(7, 1, 1.0)
    bad = np.ascontiguousarray(bad[::2, ::2])
    sent = cv2.imencode(".png", bad)[1].tobytes()
    with daemon_with_store(tmp_path) as daemon, client_of(daemon) as client:
        assert "has no draft" in client.post(f"{ONE}/try", content=sent, headers=as_png).json()["detail"]
        work = with_result(daemon, learnt, order)
        daemon.cameras["conveyor"].frame = None
        before = contents(tmp_path / "evidence" / "commission")
        tried = client.post(f"{ONE}/try", content=sent, headers=as_png).json()
        with Detector.load(learnt / "model") as detector:
            verdict = detector.predict(bad)
        assert (tried["decision"], tried["scaled_score"]) == ("reject", pytest.approx(verdict.score))
        shown, heat = (decode_image(base64.b64decode(tried[name])) for name in ("image", "heat_map"))
        assert shown.shape == heat.shape == bad.shape
        assert np.abs(shown.astype(int) - bad).mean() < 8  # a JPEG
        assert np.abs(shown.astype(int) - heat).max() > 100  # what was found has a red frame

        assert work._trial._detector is not None
        again = client.post(f"{ONE}/try", content=Path(order["images"][0]).read_bytes(), headers=as_png)
        assert again.status_code == 422 and "the model has learnt it" in again.json()["detail"]
        small = client.post(f"{ONE}/try", content=png(1), headers=as_png)  # the region does not fit
        assert small.status_code == 422
        broken = client.post(f"{ONE}/try", content=sent[:-9], headers=as_png)
        assert broken.status_code == 422 and "truncated PNG" in broken.json()["detail"]
        assert client.post(f"{ONE}/try", content=sent, headers={"Content-Type": "text/plain"}).status_code == 415
        assert client.post(f"{ONE}/try", content=bytes((32 << 20) + 1), headers=as_png).status_code == 413
        assert contents(tmp_path / "evidence" / "commission") == before
        assert daemon.store.verdicts() == [] and daemon.store.audit() == []
        assert daemon.pipelines["front"].calls == []

        monkeypatch.setattr(work, "_learner", SimpleNamespace(cancel=lambda: None))
        busy = client.post(f"{ONE}/try", content=sent, headers=as_png)
        assert busy.status_code == 409 and "a model is being learnt" in busy.json()["detail"]
        daemon.commissioning.close()
        assert work._trial._detector is None


def test_a_model_that_nobody_tries_any_more_is_released(daemon, work, learnt, order, monkeypatch):
    monkeypatch.setattr(trial, "_IDLE_S", 0.01)
    daemon.cameras["conveyor"].frame = None
    image = next(conveyor(8, 1, 0.0))[0][::2, ::2]
    for _ in range(2):  # it is opened again
        assert daemon.commissioning.try_image("conveyor", cv2.imencode(".png", image)[1].tobytes())[1].score is not None
        wait_for(lambda: work._trial._detector is None, "its release")


def test_a_learnt_model_that_is_not_whole_goes_nowhere(daemon, work):
    place = daemon.site.pipelines["front"].model.parent
    (work._draft.folder / work._draft.state.learnt / "model" / "model.onnx").unlink()
    before = contents(place)
    with pytest.raises(DraftError, match="is not whole any more: learn again"):
        daemon.commissioning.go("conveyor", "second", None, "Anna")
    assert contents(place) == before


def test_what_a_kill_left_of_a_models_way_into_service_is_gone_on_with(daemon, work):
    front, desk = daemon.pipelines["front"], daemon.commissioning
    model = daemon.site.pipelines["front"].model.parent / "second"
    with work.finished() as (learnt, _):
        shutil.copytree(learnt, model)
    before = contents(model)
    desk.go("conveyor", "second", None, "Anna")
    assert front.calls == [] and contents(model) == before
    desk.go("conveyor", "second", "front", "Anna")
    assert front.calls == [("sign", model, "Anna"), ("swap", model, "Anna")] and contents(model) == before

    def refuses(model, *, by):
        raise SettingsError("too slow")

    front.swap = refuses
    with pytest.raises(SettingsError, match="too slow"):
        desk.go("conveyor", "second", "front", "Anna")
    assert contents(model) == before  # another pipeline may judge by it
    (model / "model.onnx").write_bytes(b"damaged")
    with pytest.raises(DraftError, match="choose another name"):
        desk.go("conveyor", "second", "front", "Anna")


def test_a_start_removes_what_a_kill_left_beside_the_models_and_nothing_else(daemon, work):
    place = daemon.site.pipelines["front"].model.parent
    (place / ".of.others").mkdir()
    program = (
        "import sys; from edgead.artifact.folder import new_artifact\n"
        "with new_artifact(sys.argv[1]) as draft:\n"
        "    (draft / 'model.onnx').write_bytes(b'half'); print(draft, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, place / "third"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as writing:
        draft = Path(writing.stdout.readline().strip())
        before = contents(place)
        assert draft.parent == place and f"{draft.name}/model.onnx" in before
        daemon.commissioning.open()
        assert contents(place) == before
        writing.kill()
        writing.wait()
    daemon.commissioning.open()
    assert not draft.exists() and (place / ".of.others").is_dir()
    assert contents(place) == {file: content for file, content in before.items() if not file.startswith(draft.name)}


def test_a_process_that_ends_says_why(tmp_path, order):
    ended: list[str | None] = []
    order = {**order, "folder": str(tmp_path / "learnt-1")}
    learner = LearningProcess({**order, "images": order["images"][:3]}, tmp_path / "log", ended.append)
    assert "found 3 good images" in wait_for(lambda: ended, "its end")[0]
    learner = LearningProcess(order, tmp_path / "log", ended.append)
    learner._process.send_signal(signal.SIGKILL)
    assert "memory is short" in wait_for(lambda: ended[1:], "its end")[0]
    learner = LearningProcess(order, tmp_path / "log", ended.append)
    learner.cancel()
    time.sleep(0.1)
    assert len(ended) == 2 and learner._process.returncode == -signal.SIGKILL
    assert not (tmp_path / "learnt-1").exists()


def test_learning_on_a_full_disk_ends_in_words(order, small_disk, monkeypatch):
    def writes(good, destination, *arguments, **options):
        destination.mkdir()
        (destination / "model.onnx").write_bytes(bytes(2 * shutil.disk_usage(small_disk).total))

    monkeypatch.setattr(worker, "train_from_folder", writes)
    folder = small_disk / "learnt-1"
    said = worker._end_of({**order, "folder": str(folder)})["problem"]
    assert said == f"{folder} cannot be written: No space left on device; free some space, or discard drafts"
    assert list(small_disk.iterdir()) == []


def test_learning_that_has_no_core_says_that_it_waits(tmp_path, order, monkeypatch):
    learner = LearningProcess({**order, "folder": str(tmp_path / "learnt-1")}, tmp_path / "log", lambda problem: None)
    try:
        learner._process.send_signal(signal.SIGSTOP)
        assert not learner.waits  # it has made a step within the last minute
        monkeypatch.setattr(draft_work, "_NO_STEP_S", 0.2)
        wait_for(lambda: learner.waits, "what has no core to say so")
        # What has one is only slow, and what has ended waits for nothing.
        for used_s in (1e6, draft_work._cpu_s(2**22)):
            monkeypatch.setattr(draft_work, "_cpu_s", lambda pid, used_s=used_s: used_s)
            assert not learner.waits
    finally:
        learner.cancel()


def test_the_time_of_a_process_on_the_cores_is_that_of_the_system():
    assert draft_work._cpu_s(os.getpid()) == pytest.approx(time.process_time(), abs=0.5)


def test_the_end_of_a_stage_announces_the_next_one(monkeypatch):
    said = []
    monkeypatch.setattr(worker, "_say", lambda **what: said.append(tuple(what.values())))
    for stage, done in (
        ("extract features", 59),
        ("extract features", 60),
        ("choose again", 60),
        ("draw heat maps", 60),
    ):
        worker._report(stage, done, 60)
    assert said == [
        ("extract features", 59, 60),
        ("choose memory bank", 0, 1),
        ("choose again", 60, 60),
        ("draw heat maps", 60, 60),
    ]
