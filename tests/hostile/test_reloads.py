"""Reloads while something is wrong: what the site file names judges in the end, and nothing else stands still."""

from __future__ import annotations

import logging
import os
import re
import socket
import threading

import pytest

pytest.importorskip("onnx", reason="RELOADS NOT TESTED: the small models need onnx")
from patience import PROGRAM_S, wait_for
from small_daemon import Models, small_daemon, write_images, write_model

from edgead.line.daemon.pipeline import Subscription
from edgead.line.daemon.supervisor import Supervisor
from edgead.line.site.users import User, hash_secret, write_users

CONVEYOR = {"uri": "synthetic:?rate=40&count=6&repeat=1"}


@pytest.fixture
def models(monkeypatch):
    return Models(monkeypatch)


def site_of(model, *, camera=CONVEYOR, **changed):
    return {"cameras": {"c": camera}, "pipelines": {"a": {"camera": "c", "model": str(model)}}} | changed


def keeps(caplog):
    return [record.getMessage() for record in caplog.records if "keeps its model" in record.getMessage()]


def test_a_reload_gives_a_sound_model_to_a_pipeline_that_died_of_its_model(once, tmp_path, models, caplog):
    models.broken.add("broken")
    site = site_of(write_model(once, tmp_path / "broken"), limits={"restarts": 0})
    sound = write_model(once, tmp_path / "sound")
    with small_daemon(tmp_path, site, models) as daemon:
        daemon.wait_state("fault", reason="the engine broke; restarted 0 times")
        site["pipelines"]["a"]["model"] = str(sound)
        daemon.reload()
        daemon.wait_state("running")
        daemon.wait_judged()
        assert daemon.model() == "sound"
        (row,) = daemon.daemon.store.audit()
        assert (row["action"], row["by"]) == ("swap model", "site file")
        assert re.fullmatch(rf"{sound}( \([0-9a-f]{{16}}\))?", row["after"])
    assert not keeps(caplog)


def test_a_reload_starts_a_pipeline_again_that_died_of_a_fault_that_has_passed(once, tmp_path, models):
    models.broken.add("one")
    with small_daemon(tmp_path, site_of(write_model(once, tmp_path / "one"), limits={"restarts": 0}), models) as daemon:
        daemon.wait_state("fault", reason="the engine broke")
        models.broken.clear()
        daemon.reload()
        daemon.wait_state("running")
        daemon.wait_judged()
        assert daemon.daemon.store.audit() == []


def test_a_pipeline_that_dies_while_a_reload_starts_it_takes_frames_again(once, tmp_path, models, monkeypatch):
    models.broken.add("one")
    dying, awaited = threading.Event(), threading.Event()
    leave, join = Subscription.leave, Supervisor.join

    def slowly(subscription):
        dying.set()
        awaited.wait(PROGRAM_S)
        leave(subscription)

    def joined(supervisor, timeout_s):
        awaited.set()
        return join(supervisor, timeout_s)

    monkeypatch.setattr(Subscription, "leave", slowly)
    monkeypatch.setattr(Supervisor, "join", joined)
    with small_daemon(tmp_path, site_of(write_model(once, tmp_path / "one"), limits={"restarts": 0}), models) as daemon:
        assert dying.wait(PROGRAM_S)
        models.broken.clear()
        daemon.reload()
        daemon.wait_judged()
        daemon.wait_state("running")


def test_a_dead_pipeline_whose_new_model_is_missing_says_so(once, tmp_path, models):
    models.broken.add("broken")
    site = site_of(write_model(once, tmp_path / "broken"), limits={"restarts": 0})
    with small_daemon(tmp_path, site, models) as daemon:
        daemon.wait_state("fault", reason="the engine broke")
        site["pipelines"]["a"]["model"] = str(tmp_path / "missing")
        daemon.reload()
        daemon.wait_state("fault", reason="missing")
        write_model(once, tmp_path / "missing")
        daemon.reload()
        daemon.wait_state("running")
        daemon.wait_judged()


def test_a_model_that_a_reload_names_while_the_first_one_is_loaded_judges_after_it(once, tmp_path, models, caplog):
    held = models.hold("first")
    site = site_of(write_model(once, tmp_path / "first"))
    with small_daemon(tmp_path, site, models) as daemon:
        wait_for(lambda: models.loads, "the load")
        site["pipelines"]["a"]["model"] = str(write_model(once, tmp_path / "second"))
        reload = threading.Thread(target=daemon.reload)
        reload.start()
        wait_for(lambda: daemon.daemon.site.pipelines["a"].model.name == "second", "the reload")
        held.set()
        reload.join()
        wait_for(lambda: daemon.model() == "second", "the second model")
        daemon.wait_judged()
    assert not keeps(caplog)


def test_a_reload_that_changes_nothing_while_a_model_is_loaded_alarms_nobody(once, tmp_path, models, caplog):
    held = models.hold("first")
    with small_daemon(tmp_path, site_of(write_model(once, tmp_path / "first")), models) as daemon:
        wait_for(lambda: models.loads, "the load")
        reload = threading.Thread(target=daemon.reload)
        reload.start()
        held.set()
        reload.join()
        daemon.wait_state("running")
        assert models.loads == ["first"]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_of_reloads_that_come_while_a_model_is_loaded_the_last_one_counts(once, tmp_path, models, monkeypatch):
    monkeypatch.setattr("edgead.line.daemon.reload._FOLLOW_S", 0.1)
    site = site_of(write_model(once, tmp_path / "first"))
    held = models.hold("second")
    with small_daemon(tmp_path, site, models) as daemon:
        daemon.wait_state("running")
        for name in ("second", "third", "fourth"):
            site["pipelines"]["a"]["model"] = str(write_model(once, tmp_path / name))
            daemon.reload()
        held.set()
        wait_for(lambda: daemon.model() == "fourth", "the last model")
        daemon.wait_judged()
        assert "third" not in models.loads


def test_what_a_reload_refuses_is_a_notice_until_a_reload_succeeds(once, tmp_path, models, caplog):
    caplog.set_level(logging.INFO)
    site = site_of(write_model(once, tmp_path / "one"), http={"port": 0}, notices={"settle_s": 0})

    def last():
        return [line for line in map(logging.LogRecord.getMessage, caplog.records) if "reloaded" in line][-1]

    with small_daemon(tmp_path, site, models) as daemon, daemon.client as client:

        def standing():
            return [one["text"] for one in client.get("/api/notices").json()["standing"] if one["kind"] == "site"]

        daemon.wait_judged()
        daemon.file.write_text("cameras: {c: {uri: 'camera:0', fps: 3}}\n")
        daemon.daemon.reload()
        (text,) = wait_for(standing, "the notice")
        assert text.startswith("the site file is not in force: ") and "cameras.c.fps: unknown key" in text
        assert 'edgead_notices_open{kind="site",severity="warning"} 1.0' in client.get("/metrics").text
        daemon.reload()
        wait_for(lambda: not standing(), "its end")
        assert last() == "reloaded"
        site["pipelines"]["b"] = {"camera": "c", "model": str(tmp_path / "one")}
        daemon.reload()
        daemon.wait_judged(name="b")
        for name in "ab":
            site["pipelines"][name]["model"] = str(tmp_path / "two")
        daemon.reload()
        assert last() == "reloaded, but a, b keep their model"
        (text,) = wait_for(standing, "the notice")
        assert "a: keeps its model: " in text and "b: keeps its model: " in text and "two" in text
        del site["pipelines"]["b"]
        daemon.reload()
        assert last() == "reloaded, but a keeps its model"
        write_model(once, tmp_path / "two")
        daemon.reload()
        assert last() == "reloaded" and daemon.model() == "two"
        wait_for(lambda: not standing(), "its end")


def test_what_a_reload_cannot_change_is_a_notice(once, tmp_path, models):
    """The store until a restart, the page's address until it can be listened on."""
    site = site_of(write_model(once, tmp_path / "one"), http={"port": 0}, notices={"settle_s": 0})
    with small_daemon(tmp_path, site, models) as daemon, daemon.client as client, socket.socket() as taken:

        def standing():
            return [one["text"] for one in client.get("/api/notices").json()["standing"] if one["kind"] == "site"]

        taken.bind(("127.0.0.1", 0))
        taken.listen()
        daemon.wait_judged()
        store, http = daemon.site["store"], daemon.site["http"]
        daemon.site["store"] = {**store, "folder": "elsewhere"}
        for _ in range(2):
            daemon.reload()
            assert wait_for(standing, "the notice") == ["some of the site file is not in force: needs a restart: store"]
        daemon.site["store"] = store
        daemon.reload()
        wait_for(lambda: not standing(), "its end")
        daemon.site["http"] = {"port": taken.getsockname()[1]}
        daemon.reload()
        assert "http: the page stays as it was: " in daemon.daemon._runtime.refused
        daemon.site["http"] = http
        daemon.reload()
        assert not daemon.daemon._runtime.refused
        assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("kind", ["missing", "FIFO", "nobody", "damaged"])
def test_a_reload_to_a_file_of_users_with_nobody_locks_no_one_out(once, tmp_path, models, kind):
    pytest.importorskip("argon2", reason="PEOPLE ARE NOT TESTED: argon2-cffi is not installed")
    users = tmp_path / "users.yaml"
    if kind == "FIFO":
        os.mkfifo(users)
    elif kind != "missing":
        users.write_text({"nobody": "", "damaged": "anna: [1"}[kind])
    site = site_of(write_model(once, tmp_path / "one"), http={"port": 0}, notices={"settle_s": 0})
    with small_daemon(tmp_path, site, models) as daemon, daemon.client as client:
        daemon.wait_judged()
        http = daemon.site["http"]
        daemon.site["http"] = {**http, "users": str(users)}
        daemon.reload()
        assert re.search(r"http: the page stays as it was: .*users\.yaml", daemon.daemon._runtime.refused)

        def of_site():
            return [one for one in client.get("/api/notices").json()["standing"] if one["kind"] == "site"]

        (notice,) = wait_for(of_site, "the notice")  # a busy machine may have others
        assert "users.yaml" in notice["text"]
        daemon.site["http"] = http
        daemon.reload()
        assert not daemon.daemon._runtime.refused
        users.unlink(missing_ok=True)
        write_users(users, {"anna": User(role="engineer", password=hash_secret("Regen über Ulm 83"))})
        daemon.site["http"] = {**http, "users": str(users)}
        daemon.reload()
        assert not daemon.daemon._runtime.refused


def test_a_pipeline_that_has_ended_loads_no_model_at_a_reload(once, tmp_path, models):
    site = site_of(write_model(once, tmp_path / "one"), camera={"uri": str(write_images(tmp_path / "images", 3))})
    with small_daemon(tmp_path, site, models) as daemon:
        daemon.wait_state("stopped", reason="camera c has ended")
        site["limits"] = {"restarts": 7}
        daemon.reload()
        daemon.reload()
        assert daemon.status().state == "stopped" and models.loads == ["one"]


@pytest.mark.parametrize("kind", ["folder", "watch"])
def test_a_pipeline_that_leaves_while_it_loads_does_not_stop_the_others_of_its_camera(once, tmp_path, models, kind):
    images = write_images(tmp_path / "images", 40)
    uri = str(images) if kind == "folder" else f"watch:{images}?stable_ms=0"
    site = site_of(write_model(once, tmp_path / "one"), camera={"uri": uri})
    site["pipelines"]["b"] = {"camera": "c", "model": str(write_model(once, tmp_path / "two"))}
    models.hold("two")
    with small_daemon(tmp_path, site, models) as daemon:
        wait_for(lambda: daemon.status().judged, "a verdict")
        leaving = daemon.daemon.pipelines["b"]
        del site["pipelines"]["b"]
        daemon.reload()
        wait_for(lambda: daemon.status().judged == 40, "all images, though b still loads")
        models.release()
        wait_for(lambda: leaving.join(0), "the end of b")
        assert leaving.status().model_sha256 == "" and leaving.state == "stopped"


def test_a_start_removes_what_a_daemon_left_unfinished(once, tmp_path, models):
    (tmp_path / "evidence").mkdir()
    left = tmp_path / "evidence" / ".thresholds.json.0123456789abcdef.part"
    left.write_text("{")
    with small_daemon(tmp_path, site_of(write_model(once, tmp_path / "one")), models):
        assert not left.exists()


def test_a_start_that_finds_no_model_puts_its_newest_version_back(once, tmp_path, models, caplog):
    model = write_model(once, tmp_path / "one")
    (tmp_path / "one.versions").mkdir()
    model.rename(tmp_path / "one.versions" / "4")
    with small_daemon(tmp_path, site_of(model), models) as daemon:
        daemon.wait_state("running")
        daemon.wait_judged()
    assert model.is_dir() and not list((tmp_path / "one.versions").iterdir())
    assert "one was missing" in caplog.text and "one.versions/4 is in its place" in caplog.text


def test_a_reload_that_names_a_missing_model_puts_its_newest_version_back(once, tmp_path, models, caplog):
    site = site_of(write_model(once, tmp_path / "one"))
    other = write_model(once, tmp_path / "two")
    (tmp_path / "two.versions").mkdir()
    other.rename(tmp_path / "two.versions" / "4")
    with small_daemon(tmp_path, site, models) as daemon:
        daemon.wait_judged()
        site["pipelines"]["a"]["model"] = str(other)
        daemon.reload()
        wait_for(lambda: daemon.model() == "two" or keeps(caplog), "the other model")
        assert keeps(caplog) == []
        daemon.wait_judged()
    assert other.is_dir() and "two.versions/4 is in its place" in caplog.text
