"""A model that is slower than its line: frames that nobody looks at are an alarm, whatever the verdicts say."""

from __future__ import annotations

import time

import pytest

pytest.importorskip("onnx", reason="SLOW MODELS NOT TESTED: the small models need onnx")
from patience import wait_for
from small_daemon import Models, small_daemon, write_model

from edgead.detector import Session
from edgead.line.daemon import alarms


@pytest.mark.parametrize("every", [True, False], ids=["every frame", "one in an interval"])
def test_frames_that_a_slow_model_lets_go_by_are_an_alarm(once, tmp_path, monkeypatch, every):
    monkeypatch.setattr(alarms, "_LEAST_S", 1.0)
    models = Models(monkeypatch)
    step, slowly = Session.step, True

    def stepped(session, frame):
        time.sleep(0.1 if slowly else 0.0)
        return step(session, frame)

    monkeypatch.setattr(Session, "step", stepped)
    pipeline = {"camera": "c", "model": str(write_model(once, tmp_path / "one"))}
    if not every:  # frames between those that are asked for are let go by on purpose
        pipeline["trigger"] = {"kind": "interval", "every_s": 0.5}
    site = {
        "cameras": {"c": {"uri": "synthetic:?rate=40&count=6&repeat=1"}},
        "pipelines": {"a": pipeline},
        "notices": {"settle_s": 0.5},
    }
    with small_daemon(tmp_path, site, models) as daemon:

        def standing():
            return [notice for notice in daemon.daemon.notices.standing() if notice.kind == "not_inspected"]

        daemon.wait_judged()
        if not every:
            time.sleep(3)
            assert standing() == [] and daemon.status().dropped > 0
            return
        (notice,) = wait_for(standing, "the alarm")
        assert (notice.name, notice.severity) == ("a", "critical")
        assert "were not judged, 0 late" in notice.text and notice.value > 50
        monkeypatch.setattr(alarms, "_WINDOW_S", 1.0)
        slowly = False
        wait_for(lambda: not standing(), "its end")
