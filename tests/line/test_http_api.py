"""The API of the daemon: states, verdicts, images, changes, metrics; as a client sees them."""

from __future__ import annotations

import json
import re
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from fake_daemon import FakeDaemon
from http_side import client_of
from patience import MAX_S
from prometheus_client.parser import text_string_to_metric_families

from edgead.errors import NotNowError, NoVerdictInTimeError, SettingsError
from edgead.images.files import IMAGE_SUFFIXES
from edgead.line import web
from edgead.line.site.schema import HttpSection
from edgead.line.web.app import build_app
from edgead.line.web.server import serve
from edgead.types import Part


@pytest.fixture
def daemon(tmp_path):
    return FakeDaemon(tmp_path)


@pytest.fixture
def client(daemon):
    with client_of(daemon) as client:
        yield client


def decoded(answer) -> np.ndarray:
    assert answer.headers["content-type"] == "image/jpeg"
    return cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)


def test_ready_only_when_every_pipeline_is_in_service(client, daemon):
    assert client.get("/healthz").json() == {"alive": True}
    assert client.get("/readyz").json() == {"ready": True, "waiting_for": [], "failing_sinks": {}}
    daemon.pipelines["front"].state = "fault"
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "waiting_for": ["front"], "failing_sinks": {}}
    assert client.get("/healthz").status_code == 200


def test_not_ready_while_a_required_sink_fails(client, daemon):
    daemon.queued["blocks"] = True
    answer = client.get("/readyz")
    failing = {"plc": "is required and has failed for 42 s"}
    assert (answer.status_code, answer.json()) == (503, {"ready": False, "waiting_for": [], "failing_sinks": failing})
    status = client.get("/api/status").json()
    assert status["ready"] is False
    assert (status["sinks"][0]["required"], status["sinks"][0]["blocks"]) == (True, True)
    assert 'edgead_sink_failing_seconds{sink="plc"} 42.0' in client.get("/metrics").text


def test_status_tells_every_part_with_its_reason(client, daemon):
    daemon.cameras["conveyor"].state, daemon.cameras["conveyor"].reason = "lost", "no route to host"
    status = client.get("/api/status").json()
    assert status["ready"] is True
    (camera,), (pipeline,), (queued,) = status["cameras"], status["pipelines"], status["sinks"]
    assert (camera["state"], camera["reason"], camera["health"]) == ("lost", "no route to host", ["dark"])
    assert pipeline["decisions"] == {"ok": 7, "review": 2, "reject": 1}
    assert pipeline["trigger"] == "software" and pipeline["on_request"]
    assert (queued["waiting"], queued["dropped"], queued["problem"]) == (1, 2, "away")
    assert status["evidence_problems"] == ["images are not kept: the disk is full"]
    assert status["audit_head"] == client.get("/api/audit/chain").json()["head"] == "c0de" * 16
    assert client.get("/api/cameras").json() == status["cameras"]
    assert client.get("/api/pipelines").json() == status["pipelines"]
    assert client.get("/api/pipelines/front").json() == pipeline


def test_metrics_are_those_of_the_status(client, daemon):
    daemon.judge(1, 0.9)
    daemon.pipelines["front"].uninspected = 6
    families = text_string_to_metric_families(client.get("/metrics").text)
    found = {(s.name, *sorted(s.labels.values())): s.value for family in families for s in family.samples}
    assert found["edgead_camera_fps", "conveyor"] == 24.5
    assert found["edgead_frames_dropped_total", "front", "stale"] == 4
    assert found["edgead_frames_dropped_total", "fault", "front"] == 1
    assert found["edgead_frames_dropped_total", "front", "pause"] == 6
    assert found["edgead_reconnects_total", "conveyor"] == 3
    assert found["edgead_verdicts_total", "front", "reject"] == 1
    assert found["edgead_rejects_by_kind_total", "front", "scratch"] == 1
    assert found["edgead_latency_seconds", "0.5", "front", "infer"] == pytest.approx(0.002)
    assert found["edgead_latency_seconds_count", "front", "total"] == 1
    up_to = {
        end_s: found["edgead_stage_seconds_bucket", end_s, "front", "infer"] for end_s in ("0.001", "0.002", "+Inf")
    }
    assert up_to == {"0.001": 0, "0.002": 1, "+Inf": 1}
    assert found["edgead_stage_seconds_count", "front", "infer"] == 1
    assert found["edgead_stage_seconds_sum", "front", "infer"] == pytest.approx(0.002)
    assert found["edgead_camera_state", "conveyor", "streaming"] == 1
    assert found["edgead_camera_state", "conveyor", "lost"] == 0
    assert found["edgead_sink_dropped_total", "plc"] == 2
    assert found["edgead_evidence_problems",] == 1
    assert found["process_resident_memory_bytes",] > 1e6


def test_verdicts_come_in_pages_newest_first(client, daemon):
    ids = [daemon.judge(number, score) for number, score in enumerate([0.1, 0.45, 0.9, 0.2, 0.8])]
    first = client.get("/api/verdicts", params={"limit": 2}).json()
    assert [verdict["id"] for verdict in first["verdicts"]] == ids[:2:-1]
    rest = client.get("/api/verdicts", params={"before_id": first["next_before_id"], "limit": 10}).json()
    assert [verdict["id"] for verdict in rest["verdicts"]] == ids[2::-1]
    assert rest["next_before_id"] is None
    rejects = client.get("/api/verdicts", params={"decision": "reject"}).json()["verdicts"]
    assert [verdict["id"] for verdict in rejects] == [ids[4], ids[2]]
    assert client.get("/api/verdicts", params={"pipeline": "back"}).json()["verdicts"] == []
    detail = client.get(f"/api/verdicts/{ids[2]}").json()
    assert client.get(f"/api/verdicts/{ids[2]}", params={"pipeline": "front"}).json() == detail
    assert client.get(f"/api/verdicts/{ids[2]}", params={"pipeline": "back"}).status_code == 404
    assert detail["images"] == ["before-001.jpg", "frame.jpg", "heat.jpg"]
    assert detail["boxes"][0]["x"] == 80
    assert decoded(client.get(f"/api/verdicts/{ids[2]}/images/frame.jpg")).shape == (120, 160, 3)


def test_a_verdict_comes_in_words_of_the_language_that_is_asked_for(client, daemon):
    good, reject = (daemon.judge(number, score) for number, score in enumerate([0.1, 0.9]))
    daemon.judge(2, 0.8)
    assert client.get(f"/api/verdicts/{good}").json()["words"] is None
    assert client.get(f"/api/verdicts/{reject}").json()["words"] == "Reject: 40 x 20 px; score 200 (limit 100)."
    for row in daemon.store.rows:
        row["captured_at"] = datetime.now(timezone.utc).isoformat()
    german = {"Accept-Language": "de-DE, en;q=0.5"}
    english = "Reject: 40 x 20 px; score 200 (limit 100); 2 rejects today."
    for settings, words in (
        ({}, english),
        ({"headers": german}, "Ausschuss: 40 x 20 px; Wert 200 (Grenze 100); heute 2 Ausschussteile."),
        ({"headers": german, "params": {"language": "en"}}, english),
        ({"params": {"language": "tlh"}}, english),
    ):
        assert client.get(f"/api/verdicts/{reject}", **settings).json()["words"] == words


def test_what_is_not_there_is_said_in_words(client, daemon):
    daemon.judge(1, 0.9)
    for path in (
        "/api/verdicts/ffff",
        "/api/verdicts/ffff/images/frame.jpg",
        "/api/pipelines/back",
        "/api/cameras/back/image",
        "/api/nothing",
        "/nothing",
    ):
        answer = client.get(path)
        assert answer.status_code == 404, path
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == 404 and answer.json()["detail"], path


def test_an_image_that_retention_has_removed_is_not_found(client, daemon):
    id = daemon.judge(1, 0.9)
    (daemon.store.folder / id / "frame.jpg").unlink()
    assert client.get(f"/api/verdicts/{id}/images/frame.jpg").status_code == 404


def test_live_images_with_heat_and_without(client, daemon):
    assert client.get("/api/pipelines/front/image").status_code == 204
    daemon.judge(5, 0.9)
    plain = client.get("/api/pipelines/front/image", params={"overlay": False})
    heat = client.get("/api/pipelines/front/image", params={"overlay": True})
    assert decoded(plain).shape == decoded(heat).shape == (120, 160, 3)
    warmer = decoded(heat).astype(int) - decoded(plain)
    assert warmer[45:55, 90:110, 2].min() > 40  # red where the map is hot
    assert abs(warmer[90:, :60]).max() < 12
    assert decoded(client.get("/api/cameras/conveyor/image", params={"width": 80})).shape == (60, 80, 3)


def test_an_image_is_sent_once(client, daemon):
    daemon.judge(5, 0.9)
    first = client.get("/api/pipelines/front/image")
    again = client.get("/api/pipelines/front/image", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert first.headers["x-frame-id"] == daemon.pipelines["front"].judged[0].id


def test_changes_reach_the_pipeline_with_who_made_them(client, daemon):
    pipeline = daemon.pipelines["front"]
    base = "/api/pipelines/front"
    changed = client.put(f"{base}/thresholds", json={"review": 0.3, "reject": 0.6, "by": " Anna "})
    assert changed.json()["thresholds"] == {"review": 0.3, "reject": 0.6}
    assert client.post(f"{base}/trigger").status_code == 200
    assert "part A1" in client.post(f"{base}/trigger", json={"serial": " A1 ", "recipe": "left"}).json()["done"]
    assert client.post(f"{base}/self-test").json()["result"]["passed"] is True
    assert client.post(f"{base}/model", json={"model": "first", "by": "Anna"}).status_code == 200
    assert client.post(f"{base}/roll-back", json={"by": "Anna"}).status_code == 200
    by = "Anna (127.0.0.1)"
    assert pipeline.calls == [
        ("thresholds", 0.3, 0.6, by),
        ("fire", Part()),
        ("fire", Part("A1", recipe="left")),
        ("swap", pipeline.model, by),
        ("roll back", by),
    ]


@pytest.mark.parametrize(
    "body",
    [
        {"review": 0.7, "reject": 0.6, "by": "Anna"},
        {"review": 0.3, "reject": 0.6},
        {"review": 0.3, "reject": 0.6, "by": "  "},
        {"review": 0.3, "reject": 0.6, "by": "An\nna"},
        {"review": "low", "reject": 0.6, "by": "Anna"},
        {"review": 0.3, "reject": float("nan"), "by": "Anna"},
        {"review": 0.3, "reject": float("inf"), "by": "Anna"},
        {"review": False, "reject": True, "by": "Anna"},
        {"review": "0", "reject": "1e3", "by": "Anna"},
    ],
)
def test_thresholds_that_are_none_are_refused(client, daemon, body):
    answer = client.put("/api/pipelines/front/thresholds", content=json.dumps(body), headers=JSON)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert daemon.pipelines["front"].calls == []


JSON = {"Content-Type": "application/json"}


def test_a_false_reject_is_marked(client, daemon):
    id = daemon.judge(1, 0.9)
    assert client.post(f"/api/verdicts/{id}/false-reject", json={"by": "Anna", "note": "dust"}).status_code == 200
    mark = client.get(f"/api/verdicts/{id}").json()["false_reject"]
    assert (mark["by"], mark["note"]) == ("Anna (127.0.0.1)", "dust")
    assert client.post("/api/verdicts/ffff/false-reject", json={"by": "Anna"}).status_code == 404


def test_only_models_beside_the_pipelines_own_can_be_swapped_in(client, daemon, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "manifest.json").write_text("{}")
    (tmp_path / "models" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "models" / "no model").mkdir()
    assert client.get("/api/pipelines/front/models").json()["known"] == ["first", "linked"]
    for name in ("linked", "no model", "..", ".", "elsewhere", "first/../../elsewhere", "\u0000", str(tmp_path)):
        answer = client.post("/api/pipelines/front/model", json={"model": name, "by": "Anna"})
        assert answer.status_code in (409, 422), name
    assert daemon.pipelines["front"].calls == []


def test_the_focus_of_a_camera_is_measured_place_by_place(client, daemon):
    daemon.cameras["conveyor"].frame = None
    assert client.get("/api/cameras/conveyor/focus").json() is None
    daemon.judge(7, 0.9)
    found = client.get("/api/cameras/conveyor/focus").json()
    assert len(found["now"]["sharpness"]) == found["rows"] * found["columns"] and found["golden"] is None
    assert found["frame"] == daemon.cameras["conveyor"].frame.id
    assert client.get("/api/cameras/nowhere/focus").status_code == 404


def test_an_image_that_is_sent_is_answered_with_its_verdict(client, daemon):
    png = cv2.imencode(".png", np.zeros((40, 60, 3), np.uint8))[1].tobytes()
    jpeg = cv2.imencode(".jpg", np.zeros((40, 60, 3), np.uint8))[1].tobytes()
    path, found = "/api/pipelines/front/judge", []
    for kind, data in (("image/png", png), ("Image/JPEG; q=1", jpeg)):
        answer = client.post(path, content=data, params={"serial": "A1"}, headers={"Content-Type": kind})
        found.append((answer.status_code, answer.json()["decision"], answer.json()["serial"]))
    assert found == [(200, "reject", "A1")] * 2 and daemon.pipelines["front"].calls == [("judge", Part("A1"))] * 2
    text = client.post(path, content=png, headers={"Content-Type": "text/plain"})
    assert text.status_code == 415 and "is text/plain: set Content-Type to image/... or" in text.json()["detail"]
    form = client.post(path, files={"file": png})
    assert form.status_code == 415 and "--data-binary @part.png" in form.json()["detail"]
    assert client.post(path, content=png[:-4], headers={"Content-Type": "image/png"}).status_code == 422
    assert client.post(path, content=b"", headers={"Content-Type": "image/png"}).status_code == 422
    assert client.post("/api/pipelines/back/judge", content=png).status_code == 404


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
def test_what_can_be_learnt_can_be_sent_and_chosen_to_be_judged(client, suffix):
    """A browser that knows no type of a file sends it as bytes."""
    colour = np.zeros((40, 60) if suffix == ".pgm" else (40, 60, 3), np.uint8)
    sent = {
        "content": cv2.imencode(suffix, colour)[1].tobytes(),
        "headers": {"Content-Type": "application/octet-stream"},
    }
    answer = client.post("/api/pipelines/front/judge", **sent)
    assert (answer.status_code, answer.json().get("decision")) == (200, "reject"), answer.text
    page = (Path(web.__file__).parent / "page" / "index.html").read_text(encoding="utf-8")
    (accepted,) = re.findall(r'id="judged-files" type="file" accept="([^"]*)"', page)
    assert accepted.split(",") == sorted(IMAGE_SUFFIXES)


def test_an_image_may_be_large_and_nothing_else(client, daemon):
    large = b"\x89PNG\r\n\x1a\n" + bytes(2**20)
    headers = {"Content-Type": "image/png"}
    assert client.post("/api/pipelines/front/judge", content=large, headers=headers).status_code == 422
    with socket.create_connection(("127.0.0.1", client.base_url.port), MAX_S) as connection:
        head = "POST /api/pipelines/front/judge HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png"
        connection.sendall(f"{head}\r\nContent-Length: {2**25 + 1}\r\n\r\n".encode())
        assert b" 413 " in connection.recv(4096)
    assert client.post("/api/pipelines/front/trigger", content=large, headers=headers).status_code == 413


@pytest.mark.parametrize(
    ("error", "status"), [(NotNowError("front: is busy"), 503), (NoVerdictInTimeError("was taken as 7"), 504)]
)
def test_what_was_not_taken_may_be_sent_again_and_what_was_taken_may_not(client, daemon, error, status, monkeypatch):
    def refuse(*_):
        raise error

    monkeypatch.setattr(daemon.pipelines["front"], "judge", refuse)
    png = cv2.imencode(".png", np.zeros((40, 60, 3), np.uint8))[1].tobytes()
    answer = client.post("/api/pipelines/front/judge", content=png, headers={"Content-Type": "image/png"})
    assert answer.status_code == status and ("retry-after" in answer.headers) == (status == 503)
    assert str(error) in answer.json()["detail"]


def test_more_images_than_there_is_room_for_are_refused_before_they_are_read(client, daemon, monkeypatch):
    here, go_on = threading.Semaphore(0), threading.Event()
    judge = daemon.pipelines["front"].judge

    def wait(*given):
        here.release()
        go_on.wait(MAX_S)
        return judge(*given)

    monkeypatch.setattr(daemon.pipelines["front"], "judge", wait)
    png = cv2.imencode(".png", np.zeros((40, 60, 3), np.uint8))[1].tobytes()

    def send(_=0):
        return client.post("/api/pipelines/front/judge", content=png, headers={"Content-Type": "image/png"})

    with ThreadPoolExecutor(2) as senders:
        under_way = senders.map(send, range(2))
        for _ in range(2):
            here.acquire()
        third = send()
        go_on.set()
        assert [answer.status_code for answer in under_way] == [200, 200]
    assert third.status_code == 503 and third.headers["retry-after"] == "1"
    assert send().status_code == 200


@pytest.mark.parametrize("part", [{"serial": "A" * 129}, {"serial": "A\n1"}, {"batch": "\u200b"}, {"part": "A1"}, "A1"])
def test_what_names_no_part_is_refused_before_a_frame_is_asked_for(client, daemon, part):
    assert client.post("/api/pipelines/front/trigger", json=part).status_code == 422
    assert daemon.pipelines["front"].calls == []


def test_verdicts_are_listed_by_their_part(client, daemon):
    first = daemon.judge(1, 0.9, part=Part("A1", "b1"))
    second = daemon.judge(2, 0.1, part=Part("A2", "b1", "left"))
    for asked, found in (
        ({"serial": "A1"}, [first]),
        ({"batch": "b1"}, [second, first]),
        ({"batch": "b1", "recipe": "left"}, [second]),
        ({"serial": "A3"}, []),
    ):
        assert [one["id"] for one in client.get("/api/verdicts", params=asked).json()["verdicts"]] == found
    assert client.get(f"/api/verdicts/{second}").json()["recipe"] == "left"
    assert client.get("/api/verdicts", params={"serial": "\x00"}).status_code == 422
    misspelt = client.get("/api/verdicts", params={"desicion": "reject"})
    assert misspelt.status_code == 422
    assert misspelt.json()["detail"] == "query.desicion: unknown key; did you mean decision?"


def test_a_refusal_of_the_pipeline_is_a_conflict_with_its_words(client, daemon):
    daemon.pipelines["front"].trigger = "every_frame"
    answer = client.post("/api/pipelines/front/trigger")
    assert answer.status_code == 409
    assert answer.json()["detail"] == "front: its trigger is every_frame, which takes no requests; software does"


def test_a_fault_of_ours_shows_no_traceback(client, daemon):
    daemon.store.problems = lambda: 1 / 0
    answer = client.get("/api/status")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "Zero" not in answer.text and "Traceback" not in answer.text


def test_a_body_without_end_is_refused(client):
    body = b'{"review": 1, "reject": 2, "by": "' + b"a" * 70_000
    sized = client.put("/api/pipelines/front/thresholds", content=body, headers=JSON)
    chunked = client.put("/api/pipelines/front/thresholds", content=iter([body[:40_000], body[40_000:]]), headers=JSON)
    assert (sized.status_code, chunked.status_code) == (413, 413)


def test_verdicts_arrive_as_events(daemon):
    section = HttpSection(port=0)
    server = serve(build_app(daemon), section)
    try:
        with httpx.stream("GET", f"http://127.0.0.1:{server.port}/api/events", timeout=MAX_S) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = answer.iter_lines()
            assert next(lines).startswith("retry:")
            id = daemon.judge(3, 0.9)
            data = next(line for line in lines if line.startswith("data:"))
            verdict = json.loads(data.removeprefix("data:"))
            assert (verdict["id"], verdict["decision"]) == (id, "reject")
            server.close()  # ends the stream, which would otherwise have no end
            assert "data:" not in "".join(lines)
    finally:
        server.close()


def test_a_port_that_is_taken_is_named(daemon):
    server = serve(build_app(daemon), HttpSection(port=0))
    try:
        with pytest.raises(
            SettingsError, match=f"{server.port} cannot be listened on.*write another port into the site file"
        ):
            serve(build_app(daemon), HttpSection(port=server.port))
    finally:
        server.close()


def test_a_pipeline_that_follows_a_tag_says_so_and_may_be_sent_after_it_again(client, daemon):
    followed = client.get("/api/pipelines/front/follow").json()
    assert (followed["state"], followed["source"]) == ("pinned", "oci://registry.test/line/caps:stable")
    assert client.post("/api/pipelines/front/follow", json={"by": "Anna"}).status_code == 200
    assert daemon.followers["front"].calls == [("follow again", "Anna (127.0.0.1)")]
    daemon.followers.clear()
    answer = client.get("/api/pipelines/front/follow")
    assert answer.status_code == 404 and "front follows no tag" in answer.json()["detail"]
