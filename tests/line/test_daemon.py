"""The daemon as a process: it judges, ends in time, and says what is wrong with its site."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import cv2
import pytest
import yaml
from broker import PASSWORD, USER, Broker, Receiver
from daemons import START, check_records, conveyor, make_site, started, wait_for, write_site
from patience import usual_s

from edgead.artifact.folder import Artifact
from edgead.artifact.limits import LOWEST
from edgead.artifact.training_hashes import find_learnt
from edgead.files.folder_lock import FolderLock
from edgead.images.files import list_images
from edgead.synthetic.line import render

HANGS = (
    "import time\nfrom edgead.line.daemon.active_model import ActiveModel\n"
    "ActiveModel.step = lambda slot, frame: time.sleep(600)\n"
)


def edgead(*arguments):
    return subprocess.run([sys.executable, "-c", START, *map(str, arguments)], capture_output=True, text=True)


def two_pipelines(model, **changed):
    pipelines = {name: {"camera": name, "model": str(model)} for name in ("a", "b")}
    cameras = {"a": conveyor(10), "b": conveyor(10, seed=2)}
    return make_site(model, cameras=cameras, pipelines=pipelines, **changed)


def test_judges_tells_of_it_and_ends_in_time_with_every_verdict_on_record(trained_model, tmp_path):
    site = two_pipelines(trained_model, sinks={"lines": {"kind": "uri", "uri": f"jsonl:{tmp_path}/lines.jsonl"}})
    site["pipelines"]["b"]["sinks"] = ["lines"]
    site["pipelines"]["a"]["budget_ms"] = 0.01
    with started(tmp_path, site) as daemon:
        for name in ("a", "b"):
            reported = daemon.wait_state("running", name)
            assert reported["camera"] == name and reported["reason"] is None and len(reported["model_sha256"]) == 64
        daemon.wait_judged(6, "b")
        reported = daemon.wait_judged(10)
        assert reported["late"] == reported["judged"] == sum(reported["decisions"].values())
        assert {"age", "infer", "sink", "total"} <= reported["latency"].keys()
        counted = {one["unit"]: one["shift"] for one in daemon.api.get("/api/production/counters").json()["units"]}
        assert counted["a"]["late"] >= 10 and counted["a"]["uninspected"] == counted["a"]["late"] + counted["a"]["lost"]
        assert counted["b"]["late"] == 0
        assert daemon.api.get("/readyz").status_code == 200
        daemon.stop()
    check_records(daemon)
    lines = [json.loads(line)["id"] for line in (tmp_path / "lines.jsonl").read_text().splitlines()]
    assert lines == [record["id"] for record in daemon.records() if record["pipeline"] == "b"]
    counts = daemon.counts()
    assert counts["a"]["judged"] > 10 and counts["b"]["judged"] > 5
    assert all({"at", "level", "logger", "message"} <= line.keys() for line in daemon.log)


def test_a_pipeline_that_is_commissioned_waits_for_its_model_and_keeps_it(trained_model, tmp_path):
    model = tmp_path / "models" / "second"
    pipeline = {"camera": "conveyor", "model": "models/first", "commissioned": True}
    site = make_site(trained_model, pipelines={"a": pipeline})
    with started(tmp_path, site) as daemon:
        daemon.wait_state("starting", reason="waits for a model: commission one")
        assert daemon.api.get("/readyz").status_code == 503
        assert daemon.api.get("/api/notices").json()["standing"] == []  # no fault
        assert daemon.pipeline()["judged"] == 0
        draft = "/api/commission/conveyor"
        assert daemon.api.post(draft, json={"by": "Anna"}).status_code == 200
        assert daemon.api.post(f"{draft}/collect", json={"mode": "trigger"}).status_code == 200
        collected = lambda: daemon.api.get("/api/commission").json()[0]["draft"]["images"]  # noqa: E731
        wait_for(collected, "frames that nothing judges are collected")
        assert daemon.api.post(f"{draft}/discard", json={"by": "Anna"}).status_code == 200
        shutil.copytree(trained_model, model)
        assert daemon.api.post("/api/pipelines/a/model", json={"model": "second", "by": "Anna"}).status_code == 200
        daemon.wait_judged(2)
    with started(tmp_path, site) as daemon:  # it was killed
        daemon.wait_judged(2)
        assert daemon.pipeline()["model"] == str(model)
    model.rename(tmp_path / "models" / "away")
    with started(tmp_path, site) as daemon:
        daemon.wait_state("fault", reason="second")  # one that has gone is missed


def test_the_end_of_a_source_is_reported_and_ends_nothing_else(trained_model, tmp_path):
    site = two_pipelines(trained_model)
    site["cameras"]["a"] = conveyor(40, count=5, more="")
    with started(tmp_path, site) as daemon:
        reported = daemon.wait_state("stopped", "a", reason="camera a has ended")
        assert reported["taken"] + reported["dropped"] == 5
        daemon.wait_judged(5, "b")
        daemon.stop()
    check_records(daemon)


@pytest.mark.slow
def test_a_second_signal_ends_it_at_once(trained_model, tmp_path):
    # The end waits for a model that takes its time.
    site = make_site(trained_model, limits={"drain_s": 60})
    with started(tmp_path, site, code=HANGS + START) as daemon:
        daemon.wait_state("running")
        daemon.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert daemon.process.poll() is None
        daemon.process.send_signal(signal.SIGINT)
        assert daemon.process.wait(30) == 128 + signal.SIGINT


@pytest.mark.slow
def test_what_hangs_does_not_hold_up_the_end(trained_model, tmp_path):
    with started(tmp_path, make_site(trained_model, limits={"drain_s": 1}), code=HANGS + START) as daemon:
        daemon.wait_state("running")
        daemon.stop()  # asked for, and no failure to the service manager
    assert daemon.said("did not end in time: a")


@pytest.mark.slow
def test_what_holds_the_interpreter_is_ended_by_the_kernel(trained_model, tmp_path):
    holds = (
        "import ctypes\nfrom edgead.line.daemon.site_runtime import SiteRuntime\n"
        "run._GRACE_S = 1.0\n"
        "SiteRuntime.close = lambda line, deadline, also=(): ctypes.PyDLL(None).sleep(600)\n"
    )
    with started(tmp_path, make_site(trained_model, limits={"drain_s": 1}), code=holds + START) as daemon:
        daemon.wait_state("running")
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(60) == -signal.SIGALRM
    unit = (Path(__file__).parents[2] / "deploy/edgead.service").read_text()
    assert "SuccessExitStatus=SIGALRM" in unit


def test_a_software_trigger_judges_one_part(trained_model, tmp_path):
    site = make_site(trained_model)
    site["pipelines"]["a"]["trigger"] = {"kind": "software"}
    with started(tmp_path, site) as daemon:
        daemon.wait_state("running")
        for count, part in enumerate(({"serial": "A1", "batch": "b1"}, None), 1):
            assert daemon.api.post("/api/pipelines/a/trigger", json=part).status_code == 200
            assert wait_for(lambda: daemon.pipeline()["judged"], "a verdict") <= count
            wait_for(lambda count=count: daemon.pipeline()["judged"] == count, f"verdict {count}")
        found = daemon.pipeline()
        assert found["parts_missed"] == 0
        assert found["trigger"] == "software" and 0 < found["unasked"] <= found["taken"] - 2
        listed = daemon.api.get("/api/verdicts", params={"serial": "A1"}).json()["verdicts"]
        daemon.stop()
    assert [(record["serial"], record["batch"]) for record in daemon.records()] == [("A1", "b1"), ("", "")]
    assert [verdict["id"] for verdict in listed] == [daemon.records()[0]["id"]]


@pytest.mark.slow
def test_no_part_is_doubled_or_mixed_up_where_calls_come_at_any_time(trained_model, tmp_path):
    """Calls faster and slower than frames: each part has one verdict, captured after its call, or is counted."""
    site = make_site(trained_model, cameras={"conveyor": conveyor(30)})
    site["pipelines"]["a"]["trigger"] = {"kind": "software"}
    pauses_s = random.Random(1).choices([0, 0.005, 0.03, 0.08, 0.2], k=300)
    called = {}
    with started(tmp_path, site) as daemon:
        daemon.wait_state("running")
        for number, pause_s in enumerate(pauses_s):
            called[f"A{number}"] = datetime.now(timezone.utc)
            part = {"serial": f"A{number}", "batch": f"b{number // 10}"}
            assert daemon.api.post("/api/pipelines/a/trigger", json=part).status_code == 200
            time.sleep(pause_s)

        def settled():
            found = daemon.pipeline()
            return found if found["judged"] + found["parts_missed"] == len(called) else None

        counted = wait_for(settled, "every part judged or missed")
        daemon.stop()
    records = daemon.records()
    serials = [record["serial"] for record in records]
    assert len(set(serials)) == len(serials) == counted["judged"] and counted["parts_missed"] > 0
    assert [int(serial[1:]) for serial in serials] == sorted(int(serial[1:]) for serial in serials)
    for record in records:
        captured_at = datetime.fromisoformat(record["captured_at"]).replace(tzinfo=timezone.utc)
        assert captured_at >= called[record["serial"]]
        assert record["batch"] == f"b{int(record['serial'][1:]) // 10}"
        assert not daemon.said(f"part {record['serial']} has no frame")


def test_an_image_that_is_sent_goes_the_way_of_every_frame(trained_model, line_data, tmp_path):
    site = make_site(trained_model, cameras={"conveyor": {"uri": "request:"}})
    never_good = {"review": LOWEST, "reject": LOWEST}
    site["pipelines"]["a"]["recipes"] = {"lid": {"model": str(trained_model), "thresholds": never_good}}
    with started(tmp_path, site) as daemon:
        daemon.wait_state("running")  # though nobody has sent anything
        answers = []
        for number in range(3):
            image = cv2.imencode(".png", render(number)[0])[1].tobytes()
            sent = {"content": image, "headers": {"Content-Type": "image/png"}, "params": {"serial": f"A{number}"}}
            answers.append(daemon.api.post("/api/pipelines/a/judge", **sent).raise_for_status().json())
        sent["params"] = {"serial": "A3", "recipe": "lid"}
        answers.append(daemon.api.post("/api/pipelines/a/judge", **sent).raise_for_status().json())
        sent["params"] = {"serial": "A4", "recipe": "cap"}
        refused = daemon.api.post("/api/pipelines/a/judge", **sent)
        assert refused.status_code == 422 and "unknown recipe, known are lid" in refused.json()["detail"]
        sent |= {"params": {"serial": "A5"}, "content": image[:-20]}
        refused = daemon.api.post("/api/pipelines/a/judge", **sent)
        assert refused.status_code == 422
        words = "the file of part A5 cannot be read as an image: truncated PNG"
        assert refused.json()["detail"].startswith(words)
        found = daemon.pipeline()
        assert (found["state"], found["judged"], found["parts_missed"]) == ("running", 4, 1)
        assert found["drift"]["parts"] == 1, "the product of recipe lid has a watch of its own"
        height, width = render(0)[0].shape[:2]
        sent |= {"params": {"serial": "A6"}, "content": cv2.imencode(".png", render(0)[0][: height // 2])[1].tobytes()}
        half = daemon.api.post("/api/pipelines/a/judge", **sent).raise_for_status().json()
        learnt = {"learnt_width": width, "learnt_height": height}
        assert half["other_shape"] == {"width": width, "height": height // 2, **learnt}
        known, *_ = find_learnt(Artifact.load(trained_model), list_images(line_data / "train" / "good"))
        sent |= {"content": known.read_bytes(), "headers": {"Content-Type": "image/jpeg"}}
        answer = daemon.api.post("/api/pipelines/a/judge", **sent)
        assert answer.status_code == 200 and answer.json()["learnt"], answer.text
        daemon.stop()
    *records, _, _ = daemon.records()
    assert [(answer["other_shape"], answer["learnt"]) for answer in answers] == [(None, False)] * 4
    assert (answers[-1]["decision"], answers[-1]["threshold"]) == ("reject", LOWEST)
    shown = [(answer["id"], answer["serial"], answer["decision"], answer["image_score"]) for answer in answers]
    assert shown == [(one["id"], one["serial"], one["decision"], one["image_score"]) for one in records]


@pytest.mark.slow
def test_a_message_of_a_broker_judges_one_part(trained_model, tmp_path):
    broker = Broker(tmp_path / "broker")
    broker.start()
    site = make_site(trained_model)
    there = {"host": "127.0.0.1", "port": broker.port, "user": USER, "password": PASSWORD}
    site["pipelines"]["a"]["trigger"] = {"kind": "mqtt", **there, "topic": "line/part"}
    try:
        with started(tmp_path, site) as daemon:
            daemon.wait_state("running")
            receiver = Receiver(broker, "line/part", 0)
            assert daemon.pipeline()["judged"] == 0
            published = 0

            def ask():
                nonlocal published
                published += 1
                receiver.publish("line/part", b'{"serial": "A%d"}' % published)
                return daemon.pipeline()["judged"]

            # Until the daemon has subscribed, nobody hears it.
            wait_for(ask, "a verdict")
            receiver.close()
            daemon.stop()
        serials = [record["serial"] for record in daemon.records()]
        assert 1 <= len(serials) <= published and len(set(serials)) == len(serials)
        assert set(serials) <= {f"A{number}" for number in range(1, published + 1)}
    finally:
        broker.stop()


@pytest.mark.slow
def test_the_service_manager_is_reported(trained_model, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(90)
        environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1200000"}

        def next_of(key):
            while not (found := [line for line in manager.recv(4096).decode().splitlines() if line.startswith(key)]):
                pass
            return found[0]

        with started(tmp_path, make_site(trained_model), environment=environment) as daemon:
            assert next_of("READY=") == "READY=1"
            assert usual_s([lambda: next_of("WATCHDOG=")] * 7) < 1.2
            daemon.process.send_signal(signal.SIGHUP)
            assert int(next_of("MONOTONIC_USEC=").partition("=")[2]) <= time.monotonic_ns() // 1000
            assert next_of("READY=") == "READY=1"
            daemon.stop()
            assert next_of("STOPPING=") == "STOPPING=1"


def test_a_typo_is_named(trained_model, tmp_path):
    site = make_site(trained_model)
    site["pipelines"]["a"]["treshold"] = 1
    for arguments in ((), ("--check",)):
        reported = edgead("daemon", "-c", write_site(tmp_path, site), *arguments)
        assert reported.returncode == 2 and "pipelines.a.treshold: unknown key" in reported.stderr
        assert "Traceback" not in reported.stderr
    assert not (tmp_path / "evidence").exists()


def test_check_prints_the_site_without_secrets(trained_model, tmp_path):
    site = make_site(trained_model, http={"host": "0.0.0.0", "port": 0, "token": "0123456789abcdef-secret"})
    site["cameras"]["conveyor"] = {"uri": "rtsp://operator:hunter2@10.0.0.7/stream"}
    reported = edgead("daemon", "-c", write_site(tmp_path, site), "--check")
    assert reported.returncode == 0, reported.stderr
    assert "secret" not in reported.stdout and "hunter2" not in reported.stdout
    resolved = yaml.safe_load(reported.stdout)
    assert resolved["cameras"]["conveyor"]["uri"] == "rtsp://10.0.0.7/stream"
    assert resolved["limits"]["restarts"] == 5


def test_schema_is_one():
    schema = json.loads(edgead("daemon", "--schema").stdout)
    assert {"cameras", "pipelines"} == set(schema["required"])
    assert schema["additionalProperties"] is False


def test_a_site_is_asked_for():
    reported = edgead("daemon")
    assert reported.returncode == 2 and "edgead daemon -c site.yaml" in reported.stderr


def test_a_port_that_is_taken_is_reported(trained_model, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        site = make_site(trained_model, http={"port": taken.getsockname()[1]})
        checked = edgead("daemon", "--check", "-c", write_site(tmp_path, site))
        running = FolderLock(tmp_path / site["store"]["folder"], "")  # of a daemon, whose address it is
        rightly = edgead("daemon", "--check", "-c", write_site(tmp_path, site))
        running.close()
        reported = edgead("daemon", "-c", write_site(tmp_path, site))
    assert checked.returncode == 1 and "cannot be listened on" in checked.stderr
    assert rightly.returncode == 0, rightly.stderr
    assert reported.returncode == 2 and "cannot be listened on" in reported.stderr
    assert "starting" not in reported.stderr  # before any model is loaded


@pytest.mark.slow
def test_the_demo_site_runs(trained_model, tmp_path):
    """`deploy/site.yaml` with the model that is here in the place of that of `make demo`."""
    (tmp_path / "deploy").mkdir()
    (tmp_path / "out/demo").mkdir(parents=True)
    (tmp_path / "out/demo/model").symlink_to(trained_model)
    site = yaml.safe_load((Path(__file__).parents[2] / "deploy/site.yaml").read_text())
    with started(tmp_path / "deploy", site | {"http": {"port": 0}, "limits": {"drain_s": 30}}) as daemon:
        daemon.wait_state("running", "line")
        daemon.wait_judged(2, "line")
        daemon.stop()
    check_records(daemon)


@pytest.mark.slow
def test_a_calibration_after_thresholds_of_the_page_is_in_force_after_a_reload_and_in_the_audit(model_copy, tmp_path):
    with started(tmp_path, make_site(model_copy)) as daemon:
        daemon.wait_state("running")
        given = {"review": 0.1, "reject": 0.2, "by": "Anna"}
        daemon.api.put("/api/pipelines/a/thresholds", json=given).raise_for_status()
        assert edgead("calibrate", model_copy, "--review", "0.3", "--reject", "0.4").returncode == 0
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: daemon.pipeline()["thresholds"] == {"review": 0.3, "reject": 0.4}, "the calibration")
        last = next(row for row in daemon.api.get("/api/audit").json() if row["action"] == "thresholds")
        assert last["by"] == "edgead calibrate"
        assert last["before"] == {"review": 0.1, "reject": 0.2} and last["after"] == {"review": 0.3, "reject": 0.4}
        daemon.stop(within_s=60)  # it writes the images of its many rejects
