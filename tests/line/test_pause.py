"""A pause of a line: nothing is judged, nothing is counted as missed, and it ends by hand or by itself."""

from __future__ import annotations

import json
import re
from contextlib import closing
from types import SimpleNamespace

import pytest
from broker import PASSWORD, USER, Broker, Receiver
from browser import PANEL, opened_page, shot
from daemons import conveyor, make_site, started, wait_for
from fake_daemon import FakeDaemon, FakePipeline
from http_side import client_of, served
from patience import wait_until
from test_evidence import open_store

from edgead.line.daemon.pause_topic import PauseTopic
from edgead.line.evidence.production.counts import Tally
from edgead.line.site.schema import PauseSection

PAUSE, RESUME = "/api/pipelines/a/pause", "/api/pipelines/a/resume"


def captured(daemon):
    return next(one["captured"] for one in daemon.api.get("/api/cameras").json() if one["name"] == "a")


def after_parts(daemon, parts):
    """Status of the pipeline once the conveyor has brought so many more parts."""
    before = captured(daemon)
    wait_for(lambda: captured(daemon) >= before + parts, f"{parts} parts")
    return daemon.pipeline("a")


def passed_in_pauses(daemon):
    units = daemon.api.get("/api/production/counters").json()["units"]
    return next(unit["shift"]["paused"] for unit in units if unit["unit"] == "a")


@pytest.mark.slow
def test_nothing_is_judged_until_somebody_resumes_or_the_time_is_over(trained_model, tmp_path):
    pipelines = {name: {"camera": name, "model": str(trained_model)} for name in ("a", "b")}
    site = make_site(trained_model, cameras={"a": conveyor(10), "b": conveyor(5, seed=2)}, pipelines=pipelines)
    with started(tmp_path, site) as daemon:
        daemon.wait_state("running", "a")
        assert daemon.api.post(RESUME, json={"by": "Anna"}).status_code == 503
        asked = daemon.api.post(PAUSE, json={"by": "Anna", "reason": "cleaning"})
        assert (asked.json()["state"], asked.json()["reason"].partition(" (")[0]) == ("paused", "by Anna")
        assert daemon.api.post("/api/pipelines/a/trigger").status_code == 503
        first, others = after_parts(daemon, 3), daemon.pipeline("b")["judged"]
        later = after_parts(daemon, 10)
        assert later["state"] == "paused" and later["reason"].endswith(": cleaning")
        assert (later["judged"], later["missed"]) == (first["judged"], first["missed"])
        assert later["unasked"] == 0 and later["uninspected"] >= 10
        assert 10 <= passed_in_pauses(daemon) <= daemon.pipeline("a")["uninspected"]
        assert later["taken"] > first["taken"] and daemon.pipeline("b")["judged"] > others
        assert daemon.api.get("/readyz").status_code == 200
        assert daemon.api.post(RESUME, json={"by": "Ben"}).json()["state"] == "running"
        assert after_parts(daemon, 10)["judged"] > later["judged"]
        daemon.api.post(PAUSE, json={"by": "Anna", "minutes": 0.02}).raise_for_status()
        daemon.wait_state("running", "a")
        rows = [row for row in daemon.api.get("/api/audit").json() if row["action"] in ("pause", "resume")]
        people = [(row["action"], row["by"].partition(" ")[0]) for row in reversed(rows)]
        assert people == [("pause", "Anna"), ("resume", "Ben"), ("pause", "Anna"), ("resume", "edgead")]
        assert rows[-1]["after"] == {"reason": "cleaning", "minutes": None}
        recorded = [row["after"]["uninspected"] for row in rows if row["action"] == "resume"]
        assert recorded[1] >= 10 and sum(recorded) == passed_in_pauses(daemon) == daemon.pipeline("a")["uninspected"]
        daemon.api.post(PAUSE, json={"by": "Anna"}).raise_for_status()
        after_parts(daemon, 3)
        daemon.stop()
    with closing(open_store(tmp_path / "evidence")) as store:  # a pause that the daemon's end has ended
        assert store.audit()[0]["by"] == "edgead" and store.audit()[0]["after"]["uninspected"] >= 2


@pytest.mark.parametrize("body", [{}, {"by": "Anna", "minutes": 0}, {"by": "Anna", "minutes": 1e9}])
def test_a_pause_without_a_name_or_with_no_time_is_refused(tmp_path, body):
    daemon = FakeDaemon(tmp_path)
    with client_of(daemon) as client:
        assert client.post("/api/pipelines/front/pause", json=body).status_code == 422
    assert daemon.pipelines["front"].calls == []


def test_the_whole_line_rests_and_goes_on_by_the_page(browser, tmp_path):
    expect = pytest.importorskip("playwright.sync_api", reason="drives the browser").expect
    daemon = FakeDaemon(tmp_path)
    daemon.pipelines["side"] = FakePipeline(daemon.pipelines["front"].model, name="side")
    daemon.judge(1, 0.2)
    with served(daemon) as url, opened_page(browser, url, **PANEL) as page:
        page.locator("#pause").click()
        page.get_by_label("Why, such as cleaning").fill("cleaning")
        page.get_by_label("For", exact=True).select_option("15")
        page.get_by_label("Your name").fill("Anna")
        expect(page.get_by_label("All pipelines that run: 2")).not_to_be_checked()  # one was named
        page.get_by_label("All pipelines that run: 2").check()
        shot(page, tmp_path, "pause")
        page.get_by_role("dialog").get_by_role("button", name="Pause").click()
        expect(page.locator("#word")).to_have_text("Paused")
        expect(page.locator("#verdict-note")).to_have_text(
            re.compile("^by Anna .*: cleaning. Parts go by uninspected.$")
        )
        expect(page.locator("#tally-trigger")).to_be_hidden()
        daemon.pipelines["front"].uninspected = 1200
        daemon.store.production.count = lambda unit, period: Tally(7, 2, 1, paused=1200)
        expect(page.locator("#tally-trigger")).to_have_text("Frames that went by uninspected in pauses: 1,200")
        expect(page.locator("#production [data-figure=uninspected] td")).to_have_text(["1,200", "1,200"])
        shot(page, tmp_path, "paused")
        expect(page.locator("#tiles .said")).to_have_text(["paused", "paused", "No verdict yet"])
        page.locator("#pause").click()
        page.get_by_label("All pipelines that pause: 2").check()
        page.get_by_role("dialog").get_by_role("button", name="Resume").click()
        expect(page.locator("#pause")).to_have_text("Pause")
        expect(page.locator("#word")).to_have_text("OK")
        daemon.pipelines["side"].pause(by="Ben (h)", reason="the lens")
        expect(page.locator("#connection")).to_have_text("Paused: side")
        page.locator("#pause").click()
        page.get_by_label("Your name").fill("Anna")
        page.get_by_role("dialog").get_by_role("button", name="Pause").click()
        expect(page.locator("#pause")).to_have_text("Resume")
        page.locator("#pause").click()
        page.get_by_role("dialog").get_by_role("button", name="Resume").click()
        expect(page.locator("#toast")).to_have_text("front judges again")
        expect(page.locator("#pause")).to_have_text("Pause")
        assert daemon.pipelines["side"].state == "paused"
        daemon.pipelines["side"].resume(by="Ben (h)")
    for name in ("front", "side"):
        (paused, by, reason, minutes), resumed, *_ = daemon.pipelines[name].calls
        assert (paused, by.partition(" (")[0], reason, minutes) == ("pause", "Anna", "cleaning", 15)
        assert resumed[0] == "resume"


def test_other_systems_pause_a_line_by_messages(tmp_path, caplog):
    broker, topic = Broker(tmp_path / "broker"), "hall/pause"
    section = PauseSection(host="127.0.0.1", port=broker.port, user=USER, password=PASSWORD, topic=topic)
    pipelines = {name: FakePipeline(tmp_path, name=name) for name in ("front", "side")}
    broker.start()
    try:
        with closing(Receiver(broker, "nothing", 1)) as plc, closing(PauseTopic()) as pauses:
            pauses.follow(SimpleNamespace(pause=section), lambda: pipelines)
            assert pauses._subscription.wait(30)
            by = f"mqtt {topic}"
            for number, payload in enumerate([b"{", b"[]", b'{"paused": 1}', b'{"paused": true, "minutes": -1}'], 1):
                plc.publish(topic, payload)
                wait_until(lambda number=number: caplog.text.count("no JSON object of a pause") == number)
            plc.publish(topic, json.dumps({"paused": True, "reason": "cleaning", "minutes": 5}).encode())
            wait_until(lambda: [one.calls for one in pipelines.values()] == [[("pause", by, "cleaning", 5.0)]] * 2)
            plc.publish(topic, json.dumps({"paused": False, "pipelines": ["none", "front"]}).encode())
            wait_until(lambda: pipelines["front"].calls[1:] == [("resume", by)])
            assert "there is no pipeline 'none'" in caplog.text and len(pipelines["side"].calls) == 1
            pauses.follow(SimpleNamespace(pause=None), lambda: pipelines)
            plc.publish(topic, b'{"paused": true}')
        assert len(pipelines["front"].calls) == 2
    finally:
        broker.stop()
