"""Real faults of a running daemon: each is reported in a state, no record is lost or doubled, and the others go on."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import time

import numpy as np
import pytest
from daemons import START, check_records, conveyor, make_site, started, wait_for, write_site
from fakes import edit_manifest, mjpeg_server
from system_packages import require

from edgead.artifact.folder import Artifact, write_manifest
from edgead.heads.nearest import OF_ROWS

pytestmark = [pytest.mark.slow, pytest.mark.faults]


def two_pipelines(model, other=None, **changed):
    pipelines = {"a": {"camera": "a", "model": str(model)}, "b": {"camera": "b", "model": str(other or model)}}
    cameras = {"a": conveyor(5), "b": conveyor(5, seed=2)}
    return make_site(model, cameras=cameras, pipelines=pipelines, **changed)


def share_judged(daemon, name, parts):
    """Of so many parts on its conveyor, the share that a pipeline judges."""

    def counts():
        camera = daemon.pipeline(name)["camera"]
        captured = daemon.api.get("/api/cameras").json()
        return daemon.pipeline(name)["judged"], next(one["captured"] for one in captured if one["name"] == camera)

    judged, captured = counts()
    wait_for(lambda: counts()[1] >= captured + parts, f"{parts} parts of {name}")
    judged_then, captured_then = counts()
    return (judged_then - judged) / (captured_then - captured)


def check_rate(daemon, name, *, parts=15, least=0.7):
    """A pipeline keeps up with its conveyor: the share `least` is judged, once other tests leave it the time."""
    wait_for(lambda: share_judged(daemon, name, parts) >= least, f"{name} keeps up with its conveyor")


def copied(model, path, change=None):
    shutil.copytree(model, path)
    if change:
        edit_manifest(path, change)
    return path


def with_a_row_twice(model):
    """Another memory bank, by which every image scores as before."""
    manifest = Artifact.load(model).manifest
    for name in OF_ROWS:
        rows = np.load(model / manifest.arrays[name])
        np.save(model / manifest.arrays[name], np.vstack([rows, rows[:1]]))
    write_manifest(model, manifest)


def other_scores(content):
    """As if the golden images had scored differently where the model was made."""
    content["graphs"]["fp32"]["golden"][0]["image_score"] *= 1.01


def test_a_model_that_fails_its_self_test_is_not_in_service(trained_model, tmp_path):
    tampered = copied(trained_model, tmp_path / "tampered", other_scores)
    with started(tmp_path, two_pipelines(trained_model, tampered)) as daemon:
        reported = daemon.wait_state("fault", "b", reason="self-test of")
        assert "golden" in reported["reason"] and reported["judged"] == 0
        daemon.wait_state("running", "a")
        check_rate(daemon, "a")
        reported = daemon.pipeline("b")
        assert reported["judged"] == 0 and reported["skipped"] > 0
        counted = {one["unit"]: one["shift"] for one in daemon.api.get("/api/production/counters").json()["units"]}
        assert counted["b"]["in_fault"] >= reported["skipped"] - 1 and counted["a"]["in_fault"] == 0
        assert daemon.api.get("/readyz").status_code == 503
        # Repaired, and tested again on demand.
        shutil.rmtree(tampered)
        copied(trained_model, tampered)
        assert daemon.api.post("/api/pipelines/b/self-test").json()["result"]["passed"] is True
        daemon.wait_state("running", "b")
        daemon.wait_judged(3, "b")
        daemon.stop()
    check_records(daemon)


def test_a_model_that_decays_in_service_is_found_on_demand(trained_model, tmp_path):
    model = copied(trained_model, tmp_path / "model")
    with started(tmp_path, make_site(model)) as daemon:
        daemon.wait_state("running")
        passed = daemon.api.post("/api/pipelines/a/self-test").json()["result"]
        assert passed["passed"] is True and len(passed["images"]) == 3
        (model / "model.onnx").write_bytes(b"bad sector" + (model / "model.onnx").read_bytes()[10:])
        assert daemon.api.post("/api/pipelines/a/self-test").status_code == 409
        daemon.wait_state("fault", reason="sha256 differs")
        daemon.stop()
    check_records(daemon)


def test_models_are_exchanged_between_two_frames_and_a_corrupted_one_is_refused(trained_model, tmp_path):
    model = copied(trained_model, tmp_path / "model")
    second = copied(trained_model, tmp_path / "second", lambda content: content["training"].update(note="second"))
    corrupted = copied(trained_model, tmp_path / "corrupted")
    bank = corrupted / "memory_bank.npy"
    bank.write_bytes(bank.read_bytes()[:-100])
    copied(trained_model, tmp_path / "tampered", other_scores)
    with started(tmp_path, make_site(model, cameras={"conveyor": conveyor(10)})) as daemon:
        first = daemon.wait_state("running")
        assert first["can_roll_back"] is False
        assert daemon.api.post("/api/pipelines/a/roll-back", json={"by": "kim"}).status_code == 409
        for name, why in (("corrupted", "sha256 differs"), ("tampered", "self-test")):
            refused = daemon.api.post("/api/pipelines/a/model", json={"model": name, "by": "kim"})
            assert refused.status_code == 409 and why in refused.text
            reported = daemon.wait_judged(2)
            assert reported["state"] == "running" and reported["model_sha256"] == first["model_sha256"]
        swapped = daemon.api.post("/api/pipelines/a/model", json={"model": "second", "by": "kim"})
        assert swapped.status_code == 200, swapped.text
        reported = daemon.wait_judged(3)
        assert (reported["earlier_model"], reported["earlier_sha256"]) == (str(model), first["model_sha256"])
        assert reported["model"] == str(second) and reported["model_sha256"] != first["model_sha256"]
        assert daemon.api.post("/api/pipelines/a/roll-back", json={"by": "kim"}).status_code == 200
        reported = daemon.wait_judged(3)
        assert reported["model_sha256"] == first["model_sha256"] and reported["skipped"] == 0
        audit = daemon.api.get("/api/audit").json()
        assert [entry["action"] for entry in audit] == ["roll back model", "swap model"]
        assert {entry["by"].split(" ")[0] for entry in audit} == {"kim"}
        daemon.stop()
    check_records(daemon)
    models = [record["model"] for record in daemon.records()]
    runs = [model for model, before in zip(models, [None, *models], strict=False) if model != before]
    assert len(runs) == 3 and runs[0] == runs[2]


def test_a_model_that_fails_in_service_gives_way_to_the_one_before(trained_model, tmp_path):
    fails = (
        "from edgead.detector import Session\n"
        "step = Session.step\n"
        "def failing(session, frame):\n"
        "    if session._detector.artifact.path.name == 'second':\n"
        "        raise RuntimeError('the engine broke')\n"
        "    return step(session, frame)\n"
        "Session.step = failing\n"
    )
    model = copied(trained_model, tmp_path / "model")
    copied(trained_model, tmp_path / "second", lambda content: content["training"].update(note="second"))
    with started(tmp_path, make_site(model), code=fails + START) as daemon:
        daemon.wait_state("running")
        assert daemon.api.post("/api/pipelines/a/model", json={"model": "second", "by": "kim"}).status_code == 200
        wait_for(lambda: daemon.pipeline()["restarts"] == 1, "a restart")
        daemon.wait_state("running")
        reported = daemon.wait_judged(3)
        assert reported["model"] == str(model)
        assert daemon.api.get("/api/audit").json()[0]["action"] == "roll back on fault"
        daemon.stop()
    ids = [record["id"] for record in daemon.records()]
    assert len(set(ids)) == len(ids)


def test_a_pipeline_that_dies_is_restarted_within_its_budget_and_the_other_goes_on(trained_model, tmp_path):
    dies = (
        "from edgead.line.daemon.active_model import ActiveModel\n"
        "step = ActiveModel.step\n"
        "def dying(slot, frame):\n"
        "    if slot._pipeline == 'b':\n"
        "        raise RuntimeError('the engine broke')\n"
        "    return step(slot, frame)\n"
        "ActiveModel.step = dying\n"
    )
    site = two_pipelines(trained_model, limits={"restarts": 2, "restarts_within_s": 600})
    with started(tmp_path, site, code=dies + START) as daemon:
        daemon.wait_state("running", "a")
        reported = daemon.wait_state("fault", "b", reason="no more")
        assert reported["restarts"] == 2 and "the engine broke" in reported["reason"] and reported["judged"] == 0
        check_rate(daemon, "a")
        assert daemon.pipeline("b")["restarts"] == 2
        daemon.stop()
    assert len(daemon.said("b: died")) == 3 and "RuntimeError" in daemon.said("b: died")[0]["traceback"]
    assert {record["pipeline"] for record in daemon.records()} == {"a"}
    assert len(daemon.records()) == daemon.counts()["a"]["judged"]


def test_reload_starts_again_what_has_changed_and_refuses_a_broken_file(trained_model, tmp_path):
    site = two_pipelines(trained_model)
    with started(tmp_path, site) as daemon:
        daemon.wait_state("running", "a")
        daemon.wait_state("running", "b")
        before = daemon.wait_judged(5, "a")
        (tmp_path / "site.yaml").write_text("cameras: {a: {uri: 'camera:0', fps: 3}}\n")
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: daemon.said("not reloaded"), "the refusal")
        assert "cameras.a.fps: unknown key" in daemon.said("not reloaded")[0]["message"]
        daemon.wait_judged(3, "b")
        site["cameras"]["c"] = conveyor(5, seed=3)
        site["pipelines"]["c"] = {"camera": "c", "model": str(trained_model)}
        site["pipelines"]["b"]["budget_ms"] = 1000
        site["sinks"] = {"lines": {"kind": "uri", "uri": f"jsonl:{tmp_path}/lines.jsonl"}}
        site["pipelines"]["a"]["sinks"] = ["lines"]
        write_site(tmp_path, site)
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: daemon.said("reloaded") and daemon.said("reloaded")[-1]["message"] == "reloaded", "reloading")
        daemon.wait_state("running", "c")
        daemon.wait_state("running", "b")
        assert not daemon.pipeline("c")["can_roll_back"] and not daemon.pipeline("b")["can_roll_back"]
        assert daemon.api.get("/api/audit").json() == []
        after = daemon.wait_judged(3, "a")
        assert after["since"] == before["since"]
        assert wait_for(lambda: daemon.api.get("/api/status").json()["sinks"][0]["written"] > 2, "the new sink")
        del site["pipelines"]["c"], site["cameras"]["c"]
        write_site(tmp_path, site)
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: daemon.api.get("/api/pipelines/c").status_code == 404, "the end of c")
        daemon.stop()
    records = daemon.records()
    assert len({record["id"] for record in records}) == len(records)
    assert len([record for record in records if record["pipeline"] == "a"]) == daemon.counts()["a"]["judged"]


def test_a_model_that_the_site_file_names_again_is_swapped_in_at_a_reload(trained_model, tmp_path):
    second = copied(trained_model, tmp_path / "second", lambda content: content["training"].update(note="second"))
    site = make_site(trained_model)
    with started(tmp_path, site) as daemon:
        before = daemon.wait_state("running")
        site["pipelines"]["a"]["model"] = str(tmp_path / "missing")
        write_site(tmp_path, site)
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: daemon.said("keeps its model"), "the refusal")
        site["pipelines"]["a"]["model"] = str(second)
        write_site(tmp_path, site)
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: daemon.pipeline()["model"] == str(second), "the swap")
        after = daemon.wait_judged(3)
        assert after["restarts"] == 0 and after["since"] == before["since"]
        third = copied(trained_model, tmp_path / "third")
        swapped = daemon.api.post("/api/pipelines/a/model", json={"model": "third", "by": "kim"})
        assert swapped.status_code == 200, swapped.text
        reloaded = len(daemon.said("reloaded"))
        daemon.process.send_signal(signal.SIGHUP)
        wait_for(lambda: len(daemon.said("reloaded")) > reloaded, "reloading")
        assert daemon.wait_judged(3)["model"] == str(third)
        daemon.stop()
    check_records(daemon)


def test_thresholds_outlive_a_restart_and_belong_to_their_model(trained_model, tmp_path):
    model = copied(trained_model, tmp_path / "model")
    site = make_site(model)
    with started(tmp_path, site) as daemon:
        own = daemon.wait_state("running")["thresholds"]
        given = {"review": own["review"] * 0.1, "reject": own["reject"] * 0.2, "by": "kim"}
        assert daemon.api.put("/api/pipelines/a/thresholds", json=given).status_code == 200
        assert daemon.api.get("/api/audit").json()[0]["before"].items() >= own.items()
        daemon.wait_judged(3)
        daemon.stop(within_s=60)
    assert daemon.records()[-1]["threshold"] == given["reject"] and daemon.records()[-1]["decision"] == "reject"
    with started(tmp_path, site) as daemon:
        assert daemon.wait_state("running")["thresholds"]["reject"] == given["reject"]
        daemon.stop(within_s=60)
    edit_manifest(model, lambda content: content["training"].update(note="another"))  # which scores as before
    with started(tmp_path, site) as daemon:
        assert daemon.wait_state("running")["thresholds"]["reject"] == given["reject"]
        daemon.stop(within_s=60)
    with_a_row_twice(model)
    with started(tmp_path, site) as daemon:
        assert daemon.wait_state("running")["thresholds"] == own
        daemon.stop(within_s=60)
    (tmp_path / "evidence" / "thresholds.json").write_text("{")
    with started(tmp_path, site) as daemon:
        daemon.wait_state("fault", reason="thresholds.json cannot be read")


def test_a_limit_is_compared_with_marked_parts_by_the_model_in_service(trained_model, tmp_path):
    """Another model has judged them; one has lost its image since."""
    model, second = copied(trained_model, tmp_path / "model"), copied(trained_model, tmp_path / "second")
    with_a_row_twice(second)
    with started(tmp_path, make_site(model, cameras={"conveyor": conveyor(10)})) as daemon:
        daemon.wait_judged(6)
        rows = daemon.api.get("/api/verdicts?limit=3").json()["verdicts"]
        for row, verdict in zip(rows, ["bad", "bad", "good"], strict=True):
            body = {"verdict": verdict, "by": "kim"}
            assert daemon.api.post(f"/api/verdicts/{row['id']}/mark", json=body).status_code == 200
        marked, scores = "/api/pipelines/a/marked-scores", [row["image_score"] for row in rows]
        assert daemon.api.get(marked).json() == {"bad": scores[:2], "good": scores[2:], "unknown": 0}
        for frame in (tmp_path / "evidence" / "pictures").rglob(f"*{rows[0]['id']}*/frame.*"):
            frame.unlink()
        assert daemon.api.post("/api/pipelines/a/model", json={"model": "second", "by": "kim"}).status_code == 200
        found = daemon.api.get(marked).json()
        assert found["unknown"] == 1 and len(found["bad"]) == 1
        assert found["bad"] + found["good"] == pytest.approx(scores[1:])
        daemon.stop(within_s=60)


def test_killed_at_any_instant_no_record_is_lost_or_doubled(trained_model, tmp_path):
    lines = tmp_path / "lines.jsonl"
    site = make_site(
        trained_model,
        cameras={"conveyor": conveyor(10)},
        sinks={"lines": {"kind": "uri", "uri": f"jsonl:{lines}"}},
        http=None,
    )
    site["pipelines"]["a"]["sinks"] = ["lines"]
    chance = random.Random(0)
    for round_ in range(4):
        with started(tmp_path, site) as daemon:
            wait_for(lambda: daemon.said("a: running"), "verdicts")
            time.sleep(chance.uniform(0.1, 1.5))
            daemon.process.kill()
            daemon.process.wait()
        ids = [record["id"] for record in daemon.records()]
        reported = [json.loads(line)["id"] for line in lines.read_text().splitlines() if line.endswith("}")]
        assert len(set(ids)) == len(ids) and len(ids) > round_
        assert set(reported) <= set(ids)  # what was reported to anyone is on record
        assert len(ids) - len(reported) <= 2 * (round_ + 1)  # in each round, what was on its way to the sink
        connection = sqlite3.connect(tmp_path / "evidence" / "verdicts.sqlite")
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()


def test_a_dead_sink_delays_no_verdict_and_not_the_end(trained_model, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never answers
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/verdicts"
        sinks = {"mes": {"kind": "webhook", "url": url, "timeout_s": 600}}
        site = two_pipelines(trained_model, sinks=sinks, limits={"drain_s": 4})
        site["pipelines"]["a"]["sinks"] = ["mes"]
        with started(tmp_path, site) as daemon:
            daemon.wait_state("running", "a")
            daemon.wait_state("running", "b")
            check_rate(daemon, "a")
            wait_for(lambda: daemon.api.get("/api/status").json()["sinks"][0]["waiting"] > 10, "verdicts that wait")
            assert daemon.api.get("/api/status").json()["sinks"][0]["written"] == 0
            # The same work without a sink takes as long.
            with_sink, without = (daemon.pipeline(name)["latency"]["sink"]["p50_ms"] for name in ("a", "b"))
            assert with_sink < without + 50
            daemon.stop(within_s=5)
    check_records(daemon)


def test_a_camera_that_is_lost_is_a_fault_until_it_is_back(trained_model, tmp_path):
    with mjpeg_server(10**6, fps=10) as server:
        uri = server.url.replace("http://", "http://kim:hunter2@") + "/stream"
        site = two_pipelines(trained_model)
        site["cameras"]["a"] = {"uri": uri, "retry_first_s": 0.2, "retry_most_s": 0.5}
        with started(tmp_path, site) as daemon:
            daemon.wait_state("running", "b")
            daemon.wait_state("running", "a")
            daemon.wait_judged(3, "a")
            server.away = True
            reported = daemon.wait_state("fault", "a", reason="camera a is lost")
            assert "hunter2" not in reported["reason"]
            judged = daemon.pipeline("a")["judged"]
            check_rate(daemon, "b")
            assert daemon.pipeline("a")["judged"] == judged  # no frame is invented
            server.away = False
            daemon.wait_state("running", "a")
            assert daemon.wait_judged(3, "a")["restarts"] == 0
            daemon.stop()
    check_records(daemon)
    assert "hunter2" not in (tmp_path / "daemon.log").read_text()


def test_a_recording_does_not_wait_for_a_pipeline_that_has_died(trained_model, tmp_path):
    dies = (
        "from edgead.line.daemon.active_model import ActiveModel\n"
        "step = ActiveModel.step\n"
        "def dying(slot, frame):\n"
        "    if slot._pipeline == 'b':\n"
        "        raise RuntimeError('the engine broke')\n"
        "    return step(slot, frame)\n"
        "ActiveModel.step = dying\n"
    )
    site = make_site(trained_model, limits={"restarts": 0}, cameras={"conveyor": {"uri": "synthetic:?count=30"}})
    site["pipelines"]["b"] = dict(site["pipelines"]["a"])
    with started(tmp_path, site, code=dies + START) as daemon:
        daemon.wait_state("fault", "b", reason="no more")
        reported = daemon.wait_state("stopped", "a", reason="has ended")
        assert (reported["judged"], reported["dropped"]) == (30, 0)
        daemon.stop()
    check_records(daemon)


def test_the_clock_set_back_changes_nothing_but_what_people_read(trained_model, tmp_path):
    clock = tmp_path / "clock"

    def set_clock(text):  # at once: libfaketime ends a process that finds half a file
        (tmp_path / "draft").write_text(text)
        (tmp_path / "draft").rename(clock)

    set_clock("+0s")
    environment = {
        **os.environ,
        "LD_PRELOAD": require("faketime"),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    with started(tmp_path, two_pipelines(trained_model), environment=environment) as daemon:
        daemon.wait_state("running", "a")
        daemon.wait_state("running", "b")
        daemon.wait_judged(5, "a")
        usual = share_judged(daemon, "a", 15)  # a clock that is a file is slow to read
        set_clock("-3600s")
        daemon.wait_judged(5, "a")
        for name in ("a", "b"):
            check_rate(daemon, name, least=min(0.7, usual / 2))
        newest = daemon.api.get("/api/verdicts", params={"limit": 1, "pipeline": "a"}).json()["verdicts"][0]
        assert daemon.pipeline("a")["restarts"] == 0
        assert newest["number"] >= 10
        daemon.stop()
    check_records(daemon)
    times = [record["captured_at"] for record in daemon.records() if record["pipeline"] == "a"]
    assert times != sorted(times) and times[-1] < times[0]
