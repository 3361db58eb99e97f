"""The drift watch of a real daemon: its warning is shown, outlives a restart, and can be accepted."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
from daemons import conveyor, make_site, started, wait_for
from fakes import make_verdict, numbered
from test_drift import calibration

from edgead.errors import SettingsError
from edgead.line.daemon.drift import _OFF_S, ModelDrift
from edgead.line.drift import DriftSection, DriftWatch
from edgead.types import Frame


@pytest.mark.slow
def test_a_conveyor_of_defects_is_a_warning_and_no_fault(trained_model, tmp_path):
    site = make_site(trained_model, cameras={"conveyor": conveyor(30, count=40, more="&repeat=1&defect_rate=1")})
    site["pipelines"]["a"]["drift"] = {"most_flagged": 0.1}

    def warned(daemon):
        drift = daemon.pipeline()["drift"]
        return drift if drift and drift["state"] == "warning" else None

    with started(tmp_path, site) as daemon:
        drift = wait_for(lambda: warned(daemon), "a warning")
        assert "more parts than usual are rejected" in drift["reason"]
        assert daemon.pipeline()["state"] == "running"
        assert f'edgead_drift_warning{{cause="{drift["cause"]}",pipeline="a"}} 1.0' in daemon.api.get("/metrics").text
        daemon.stop(within_s=60)
    assert daemon.said("a: drift: ")[0]["level"].upper() == "WARNING"
    with started(tmp_path, site) as daemon:
        again = wait_for(lambda: warned(daemon), "the warning of before")
        assert again["alarm_part"] == drift["alarm_part"] and again["parts"] >= drift["parts"]
        accepted = daemon.api.post("/api/pipelines/a/accept-drift", json={"by": "Anna"})
        assert accepted.status_code == 200
        wait_for(lambda: daemon.pipeline()["drift"]["parts"] < again["parts"], "a watch that began again")
        change = daemon.api.get("/api/audit").json()[0]
        assert change["action"] == "accept drift" and change["by"].startswith("Anna")
        daemon.stop(within_s=60)


def parts(drift, scores, *, model="m"):
    limits = calibration()
    for number, score in enumerate(scores):
        verdict = make_verdict(float(score))
        verdict = SimpleNamespace(
            image_score=float(score), review_threshold=limits.review, threshold=limits.reject, model=model,
            anomaly_map=verdict.anomaly_map,
        )  # fmt: skip
        drift.add(Frame(numbered(number), number, number, None, "top"), verdict)


class Slot:
    """Has a model; counts how often its good parts are asked for."""

    model = "m"

    def __init__(self):
        self.asked = 0

    def drift_watch(self, section):
        self.asked += 1
        return DriftWatch(calibration(), (), section)


def test_the_watch_goes_with_the_model_and_is_kept(tmp_path):
    slot, file = Slot(), tmp_path / "drift" / "a.json"
    drift = ModelDrift("a", slot, DriftSection(), file)
    with pytest.raises(SettingsError, match="no drift is watched"):
        drift.start_again()
    good = np.sort(calibration().scores)[:40]
    parts(drift, good)
    assert (slot.asked, drift.state.parts) == (1, 40)
    drift.save()
    parts(drift, good[:5], model="another")
    assert slot.asked == 2
    other = ModelDrift("a", Slot(), DriftSection(), file)
    parts(other, good[:1])
    assert other.state.parts == 41
    other.start_again()
    parts(other, good[:1])
    assert other.state.parts == 1


@pytest.mark.parametrize("content", ["", "[]", "{", json.dumps({"made_for": "others"})])
def test_a_state_that_cannot_be_used_begins_again(tmp_path, content, caplog):
    (tmp_path / "a.json").write_text(content)
    drift = ModelDrift("a", Slot(), DriftSection(), tmp_path / "a.json")
    with caplog.at_level(logging.INFO):
        parts(drift, [1.0])
    assert drift.state.parts == 1
    assert "the drift watch begins" in caplog.text


def test_a_disk_that_takes_nothing_stops_nothing(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    drift = ModelDrift("a", Slot(), DriftSection(), tmp_path / "file" / "a.json")
    parts(drift, [1.0])
    drift.save()
    assert "is not kept" in caplog.text


def test_a_model_that_cannot_be_watched_says_why_and_one_after_it_is_watched(tmp_path, caplog):
    slot = Slot()
    watch, slot.drift_watch = slot.drift_watch, Mock(side_effect=SettingsError("m has no scores of good parts"))
    drift = ModelDrift("a", slot, DriftSection(), tmp_path / "a.json")
    parts(drift, [1.0] * 3)
    assert (drift.state.state, drift.state.reason) == ("off", "m has no scores of good parts")
    assert caplog.text.count("a: drift is not watched: m has no scores") == 1
    with pytest.raises(SettingsError, match="no drift is watched"):
        drift.start_again()
    slot.drift_watch = watch
    parts(drift, [1.0], model="another")
    assert (drift.state.state, drift.state.parts) == ("ok", 1)


def test_nothing_is_watched_where_nothing_is_to_be(tmp_path):
    slot = Slot()
    drift = ModelDrift("a", slot, None, tmp_path / "a.json")
    parts(drift, [1.0])
    drift.save()
    assert (slot.asked, drift.state, list(tmp_path.iterdir())) == (0, None, [])


def test_a_warning_is_logged_once(tmp_path, caplog):
    drift = ModelDrift("a", Slot(), DriftSection(), tmp_path / "a.json")
    limits = calibration()
    parts(drift, limits.scores[:40])
    assert drift.state.state != "warning" and not caplog.records
    parts(drift, [2 * limits.reject] * 300)
    assert drift.state.state == "warning"
    (record,) = caplog.records
    assert record.message == f"a: drift: {drift.state.reason}" and record.alarm_part == drift.state.alarm_part


def test_a_watch_that_fails_is_off_for_a_while_and_then_begins(tmp_path, monkeypatch, caplog):
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr("edgead.line.daemon.drift.time", SimpleNamespace(monotonic=lambda: clock.now))
    slot, file = Slot(), tmp_path / "a.json"
    before = ModelDrift("a", slot, DriftSection(), file)
    parts(before, [1.0] * 5)
    before.save()
    monkeypatch.setattr(slot, "drift_watch", lambda section: 1 / 0)
    drift = ModelDrift("a", slot, DriftSection(), file)
    parts(drift, [1.0])
    assert drift.state is None and "the drift watch failed and is off for" in caplog.text
    monkeypatch.undo()
    monkeypatch.setattr("edgead.line.daemon.drift.time", SimpleNamespace(monotonic=lambda: clock.now))
    clock.now += _OFF_S - 1
    parts(drift, [1.0])
    assert drift.state is None and slot.asked == 1
    clock.now += 1
    parts(drift, [1.0])
    assert drift.state.parts == 1  # what was kept may be what it had failed of
