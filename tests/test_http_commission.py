"""What the API refuses of a draft, and what the process that learns gives back."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from fake_daemon import FakeDaemon
from http_side import client_of
from patience import wait_for
from test_draft import contents

from edgead.adapt.commission.worker import learn_order
from edgead.artifact.folder import Artifact
from edgead.daemon.commission import DraftError
from edgead.daemon.commission.draft_work import Learner
from edgead.dataset.places import read_ignored
from edgead.errors import SettingsError
from edgead.images.files import write_image
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
    return {**texts, **drawn, "frame_size": [240, 240]}


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
    assert all(part["learnt"] for part in result["parts"])
    assert sorted(path.stem for path in (learnt / "maps").iterdir()) == sorted(
        part["name"].removesuffix(".png") for part in result["parts"]
    )
    spec = Artifact.load(learnt / "model").manifest.preprocessing
    assert spec.roi == (20, 20, 201, 201)
    ignored = read_ignored(["30,30,20,20"], (240, 240), "a part")
    assert set(ignored.polygons) < set(spec.ignored.polygons)  # beside all that lies outside of the polygon


def test_a_model_goes_beside_the_others_or_nowhere(daemon, learnt, order):
    desk, camera = daemon.commissioning, daemon.cameras["conveyor"]
    desk.begin("conveyor", "Anna")
    work = desk._needed("conveyor")
    work._draft.add(camera.frame.image)
    name = Path(order["folder"]).name
    (work._draft.folder / name).symlink_to(learnt)
    work._draft.keep_result(name, work._draft.source)
    gone = desk.go("conveyor", "second", "front", "Anna")
    model = daemon.site.pipelines["front"].model.parent / "second"
    assert gone["model"] == str(model) and str(model) in gone["yaml"]
    assert daemon.pipelines["front"].calls == [("sign", model, "Anna"), ("swap", model, "Anna")]
    assert Artifact.load(model).manifest.training["data"] == "conveyor"
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
    assert daemon.store.changes[0]["action"] == "commission model"
    work._draft.add(camera.frame.image[::-1].copy())
    with pytest.raises(DraftError, match="have changed since the model was learnt: learn again"):
        desk.go("conveyor", "fifth", "front", "Anna")


def test_a_process_that_ends_says_why(tmp_path, order):
    ended: list[str | None] = []
    order = {**order, "folder": str(tmp_path / "learnt-1")}
    learner = Learner({**order, "images": order["images"][:3]}, tmp_path / "log", ended.append)
    assert "found 3 good images" in wait_for(lambda: ended, "its end")[0]
    learner = Learner(order, tmp_path / "log", ended.append)
    learner._process.send_signal(signal.SIGKILL)
    assert "memory is short" in wait_for(lambda: ended[1:], "its end")[0]
    learner = Learner(order, tmp_path / "log", ended.append)
    learner.cancel()
    time.sleep(0.1)
    assert len(ended) == 2 and learner._process.returncode == -signal.SIGKILL
    assert not (tmp_path / "learnt-1").exists()
