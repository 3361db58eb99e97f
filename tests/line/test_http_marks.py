"""Marks and lessons over HTTP: what is asked of the daemon, and what is refused before it is."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from fake_daemon import make_judged
from http_side import client_of, daemon_with_store


@pytest.fixture
def daemon(tmp_path):
    with daemon_with_store(tmp_path) as daemon:
        yield daemon


@pytest.fixture
def client(daemon):
    with client_of(daemon) as client:
        yield client


def test_an_ok_part_is_seen_marked_bad_and_kept_as_it_was(client, daemon):
    id = daemon.judge(1, 0.1)
    seen = client.get(f"/api/verdicts/{id}/recent?width=160")
    assert seen.headers["content-type"] == "image/jpeg" and client.get("/api/verdicts/ffff/recent").status_code == 404
    marked = client.post(f"/api/verdicts/{id}/mark", json={"verdict": "bad", "by": "Anna", "note": "a crack"})
    assert marked.json() == {"done": "marked as bad; its frame is kept without loss", "lossless": True}
    found = client.get(f"/api/verdicts/{id}").json()
    assert (found["mark"]["verdict"], found["mark"]["by"]) == ("bad", "Anna (127.0.0.1)")
    assert found["images"] == ["frame.png"] and found["recent"] and found["false_reject"] is None
    image = client.get(f"/api/verdicts/{id}/images/frame.png")
    assert image.headers["content-type"] == "image/png"
    kept = cv2.imdecode(np.frombuffer(image.content, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(kept, make_judged(1, 0.1)[0].image)
    assert [one["id"] for one in client.get("/api/verdicts?mark=bad").json()["verdicts"]] == [id]
    assert client.get("/api/verdicts?mark=good").json()["verdicts"] == []


def test_a_mark_is_taken_back_once(client, daemon):
    id = daemon.judge(1, 0.9)
    client.post(f"/api/verdicts/{id}/mark", json={"verdict": "good", "by": "Anna"}).raise_for_status()
    back = {"verdict": None, "by": "Ben"}
    assert client.post(f"/api/verdicts/{id}/mark", json=back).json()["done"] == "the mark is taken back"
    again = client.post(f"/api/verdicts/{id}/mark", json=back)
    assert (again.status_code, again.json()["detail"]) == (409, f"{id}: nobody marked it")
    assert client.post("/api/verdicts/ffff/mark", json=back).status_code == 404
    assert client.post(f"/api/verdicts/{id}/mark", json={"verdict": "ugly", "by": "Ben"}).status_code == 422
    assert [row["action"] for row in client.get("/api/audit").json()] == ["take_back_mark", "mark_good"]


def test_lessons_are_asked_for_by_pipelines_and_parts_that_there_are(client, daemon):
    asked = {"pipeline": "front", "verdicts": ["abc"], "by": "Anna"}
    assert client.post("/api/lessons", json=asked).json() == {"lessons": []}
    assert client.post("/api/lessons", json=asked | {"pipeline": "rear"}).status_code == 404
    assert client.post("/api/lessons", json=asked | {"verdicts": []}).status_code == 200  # bad parts alone
    assert client.post("/api/lessons", json=asked | {"verdicts": ["../x"]}).status_code == 422
    assert client.get("/api/lessons/front/sheet").status_code == 404
    for what in ("accept", "discard"):
        assert client.post(f"/api/lessons/front/{what}", json={"by": "Ben"}).status_code == 200
    by = "Ben (127.0.0.1)"
    assert daemon.lessons.calls == [
        ("start", "front", ["abc"], "Anna (127.0.0.1)", ""),
        ("start", "front", [], "Anna (127.0.0.1)", ""),
        ("accept", "front", by),
        ("discard", "front", by),
    ]
