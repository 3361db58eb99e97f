"""Alarms of a real daemon, to a real broker and a real HTTP server: once each, over a cut, a reload and a kill."""

from __future__ import annotations

import signal
from contextlib import closing

import pytest
from broker import PASSWORD, USER, Broker, Receiver
from daemons import make_site, started, write_site
from patience import wait_for
from test_sinks_webhook import Hook

pytest.importorskip("paho.mqtt", reason="MQTT NOT TESTED: pip install 'edgead[daemon]'")


def rejecting(daemon, everything: bool) -> None:
    """Have every part rejected from now on, or none."""
    limit = -1.0 if everything else 1e6
    body = {"review": limit, "reject": limit, "by": "Anna", "reason": "a test of alarms"}
    daemon.api.put("/api/pipelines/a/thresholds", json=body).raise_for_status()


def standing(daemon, kind: str) -> dict | None:
    listed = daemon.api.get("/api/notices").raise_for_status().json()["standing"]
    return next((notice for notice in listed if notice["kind"] == kind), None)


def of_row(records: list[dict]) -> list[tuple[str, str]]:
    return [(one["event"], one["id"]) for one in records if one["kind"] == "rejects_in_a_row"]


@pytest.mark.slow
def test_an_alarm_arrives_once_whoever_is_away_and_ends_once(trained_model, tmp_path):
    broker = Broker(tmp_path / "broker")
    broker.start()
    hook = Hook()
    site = make_site(trained_model)
    site["pipelines"]["a"]["alarms"] = {"rejects_in_a_row": 5}
    address = {"host": "127.0.0.1", "port": broker.port, "user": USER, "password": PASSWORD, "retry_most_s": 1}
    site["sinks"] = {
        "broker": {"kind": "mqtt", "qos": 2, **address},
        "chat": {"kind": "webhook", "url": hook.url},
    }
    site["notices"] = {"sinks": ["broker", "chat"], "settle_s": 1}
    with closing(hook), closing(Receiver(broker, "edgead/+/notice/+", 2)) as receiver:
        try:
            with started(tmp_path, site) as daemon:
                daemon.wait_judged(3)
                rejecting(daemon, False)
                broker.stop()
                rejecting(daemon, True)
                alarm = wait_for(lambda: standing(daemon, "rejects_in_a_row"), "the alarm")
                assert wait_for(lambda: standing(daemon, "sink"), "the fault of the sink")["name"] == "broker"
                wait_for(lambda: of_row(hook.taken), "the alarm at the hook")
                broker.start()
                wait_for(lambda: of_row(receiver.records), "the alarm at the broker")
                write_site(tmp_path, site | {"limits": {"drain_s": 29}})
                daemon.process.send_signal(signal.SIGHUP)
                wait_for(lambda: daemon.said("reloaded"), "the reload")
                seen = daemon.api.post(f"/api/notices/{alarm['id']}/acknowledge", json={"by": "Ben"}).json()
                assert seen["event"] == "acknowledged"
                wait_for(lambda: len(of_row(receiver.records)) == 2, "that it was seen")
                assert "Ben (127.0.0.1)" in [change["by"] for change in daemon.api.get("/api/audit").json()]
                daemon.process.kill()
            with started(tmp_path, site) as daemon:
                daemon.wait_judged(3)
                rejecting(daemon, False)
                wait_for(lambda: of_row(hook.taken)[-1][0] == "resolved", "its end")
                wait_for(lambda: of_row(receiver.records)[-1][0] == "resolved", "its end")
                daemon.stop(within_s=60)
        finally:
            broker.stop()
    events = [("raised", alarm["id"]), ("acknowledged", alarm["id"]), ("resolved", alarm["id"])]
    assert of_row(hook.taken) == events
    # After the start the broker is given again what it retains.
    assert list(dict.fromkeys(of_row(receiver.records))) == events and len(of_row(receiver.records)) == 4
