"""Changes of the model in service that come at the same time, and what memory they leave behind."""

from __future__ import annotations

import shutil
import threading
import time
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from patience import MAX_S

pytest.importorskip("edgead.line.daemon.active_model")
from edgead.adapt.recalibrate import thresholds_by_hand, write_thresholds
from edgead.artifact.folder import Artifact, write_arrays, write_manifest
from edgead.artifact.training_hashes import FILE
from edgead.detector import Detector
from edgead.errors import SettingsError
from edgead.images.files import load_image
from edgead.line.daemon.active_model import ActiveModel, SlotBusyError
from edgead.line.daemon.thresholds import KeptThresholds, PipelineThresholds, ThresholdRecord, thresholds_of
from edgead.line.site.schema import PipelineSection
from edgead.sources.contract import FrameCounter
from edgead.types import StageTimes
from edgead.unlabelled.sorting.name_kinds import KindExamples, keep_kinds


@pytest.fixture
def slot(trained_model, tmp_path):
    section = PipelineSection(camera="top", model=trained_model)
    slot = ActiveModel("line", section, KeptThresholds(tmp_path / "thresholds.json"), threads=1)
    slot.load()
    yield slot
    slot.close()


@contextmanager
def exchange_under_way(slot, monkeypatch):
    entered, released = threading.Event(), threading.Event()
    tested = slot._tested

    def slowly(path):
        entered.set()
        assert released.wait(2 * MAX_S)
        return tested(path)

    monkeypatch.setattr(slot, "_tested", slowly)
    thread = threading.Thread(target=slot.swap, args=(slot.path,))
    thread.start()
    assert entered.wait(MAX_S)
    try:
        yield
    finally:
        released.set()
        thread.join()


def test_a_change_while_a_model_is_exchanged_is_refused_at_once_and_changes_nothing(slot, monkeypatch):
    before = slot.thresholds
    with exchange_under_way(slot, monkeypatch):
        begin = time.monotonic()
        for change in (
            lambda: slot.swap(slot.path),
            slot.roll_back,
            slot.self_test,
            lambda: slot.set_thresholds(ThresholdRecord.checked(review=1, reject=2, by="Anna")),
        ):
            with pytest.raises(SlotBusyError, match="line: its model is being exchanged or tested: try again"):
                change()
        assert time.monotonic() - begin < MAX_S
        assert slot.thresholds == before
    assert slot.self_test().passed and slot.earlier[0]
    slot.roll_back()


def test_what_the_model_has_learnt_is_read_once_with_it(model_copy, line_data, tmp_path):
    """And not at each request: where the model lies, another one may have come meanwhile."""
    section = PipelineSection(camera="top", model=model_copy)
    slot = ActiveModel("line", section, KeptThresholds(tmp_path / "thresholds.json"), threads=1)
    slot.load()
    (model_copy / FILE).unlink()
    images = [*sorted((line_data / "train" / "good").iterdir()), *(line_data / "test" / "good").iterdir()]
    frames = FrameCounter("top")
    learnt = [slot.has_learnt(frames.capture(load_image(path)), path.read_bytes()) for path in images]
    slot.close()
    assert any(learnt[:60]) and not any(learnt[60:])


def test_memory_is_given_back_after_an_exchange(slot, monkeypatch):
    given_back = []
    monkeypatch.setattr("edgead.process.memory.give_back", lambda: given_back.append(slot.model))
    slot.swap(slot.path)
    assert given_back == [slot.model]


@pytest.fixture
def reload(model_copy, tmp_path):
    """Open a slot with the model as it lies there now, as after a reload of the site."""

    @contextmanager
    def opened():
        section = PipelineSection(camera="top", model=model_copy)
        slot = ActiveModel("line", section, KeptThresholds(tmp_path / "thresholds.json"), threads=1)
        slot.load()
        try:
            yield slot
        finally:
            slot.close()

    return opened


def test_thresholds_that_a_person_set_outlive_a_change_of_the_manifest(reload, model_copy):
    with reload() as slot:
        before = slot.model
        slot.set_thresholds(ThresholdRecord.checked(review=0.1, reject=0.2, by="Anna"))
    manifest = Artifact.load(model_copy).manifest
    write_manifest(model_copy, manifest.model_copy(update={"versions": {**manifest.versions, "note": "line 2"}}))
    with reload() as slot:
        assert slot.model != before
        assert slot.thresholds.values() == {"review": 0.1, "reject": 0.2}
        assert superseded(slot) == []


def superseded(slot):
    found = []
    slot.settle_superseded(lambda *thresholds: found.append(thresholds))
    return found


def test_a_calibration_takes_the_place_of_what_a_person_set_before_and_says_so_once(reload, model_copy, caplog):
    with reload() as slot:
        slot.set_thresholds(ThresholdRecord.checked(review=0.1, reject=0.2, by="Anna"))
    artifact = Artifact.load(model_copy)
    write_thresholds(artifact, *thresholds_by_hand(artifact, None, review=0.3, reject=0.4))
    with reload():
        pass  # a kill before the record: the next start makes up for it
    with reload() as slot:
        assert slot.thresholds.values() == {"review": 0.3, "reject": 0.4}
        [(before, now)] = superseded(slot)
        assert (before.by, before.values()) == ("Anna", {"review": 0.1, "reject": 0.2})
        assert (now.by, now.values()) == ("edgead calibrate", {"review": 0.3, "reject": 0.4})
        assert superseded(slot) == []
    assert "newer than those that Anna set" in caplog.text
    with reload() as slot:
        assert slot.thresholds.values() == {"review": 0.3, "reject": 0.4}
        assert superseded(slot) == []
        slot.set_thresholds(ThresholdRecord.checked(review=0.5, reject=0.6, by="Anna"))
    with reload() as slot:
        assert slot.thresholds.values() == {"review": 0.5, "reject": 0.6}


def test_a_way_back_to_a_model_of_the_same_scores_keeps_what_a_person_set_as_a_restart_does(
    reload, model_copy, tmp_path
):
    twin = shutil.copytree(model_copy, tmp_path / "twin")
    with reload() as slot:
        slot.swap(twin)
        slot.set_thresholds(ThresholdRecord.checked(review=0.1, reject=0.2, by="Anna"))
        slot.roll_back()
        assert slot.thresholds.values() == {"review": 0.1, "reject": 0.2}
    with reload() as slot:
        assert slot.thresholds.values() == {"review": 0.1, "reject": 0.2}


def test_thresholds_that_a_person_set_go_with_a_model_that_is_taught(reload, model_copy, tmp_path):
    """They move as far as the model's own limit does in the lesson."""
    own = Artifact.load(model_copy).graph().calibration
    taught = Artifact.load(shutil.copytree(model_copy, tmp_path / "taught"))
    bank = taught.array("memory_bank")
    write_arrays(taught.path, taught.manifest, {"memory_bank": bank + np.float32(0.01)})
    limits = own.model_copy(update={"reject": own.reject + 0.25})
    write_manifest(taught.path, taught.manifest.with_graph("fp32", calibration=limits, golden=[]))
    with reload() as slot:
        slot.carry_thresholds(Artifact.load(taught.path))  # nobody has set any
        slot.set_thresholds(ThresholdRecord.checked(review=0.1, reject=0.2, by="Anna"))
        slot.carry_thresholds(Artifact.load(taught.path))
        thresholds = PipelineThresholds("line", KeptThresholds(tmp_path / "thresholds.json"))
        with Detector.load(taught.path) as detector:
            assert thresholds_of(detector).reject == limits.reject
            thresholds.apply(detector)
            assert thresholds_of(detector).values() == pytest.approx({"review": 0.35, "reject": 0.45})
        assert slot.thresholds.values() == {"review": 0.1, "reject": 0.2}


@pytest.mark.parametrize("times_as_slow", [1.0, 4.0])
def test_a_model_too_slow_for_the_budget_takes_the_place_of_one_in_service_only_where_it_is_not_slower(
    trained_model, model_copy, tmp_path, caplog, monkeypatch, times_as_slow
):
    """As after a lesson: other patches, on a device that is late already."""
    section = PipelineSection(camera="top", model=trained_model, budget_ms=1e-3)
    other = Artifact.load(model_copy)
    write_arrays(model_copy, other.manifest, {"memory_bank": other.array("memory_bank") * np.float32(1 + 1e-6)})
    write_manifest(model_copy, other.manifest)
    slot = ActiveModel("line", section, KeptThresholds(tmp_path / "thresholds.json"), threads=1)
    slot.load()  # at the start there is no other one: it judges late
    try:
        assert "ms a frame on this computer, of 0.001 ms from the capture to the verdict" in caplog.text
        before, frame_ms = slot.model, {trained_model: 20.0, model_copy: 20.0 * times_as_slow}
        measure, times = Detector.measure, StageTimes(1.0, 0.0, 1.0, 1.0)
        monkeypatch.setattr(
            Detector,
            "measure",
            lambda self, image: replace(
                measure(self, image), stage_times=replace(times, infer_ms=frame_ms[self.artifact.path])
            ),
        )
        if times_as_slow == 1:
            slot.swap(model_copy)
        else:
            with pytest.raises(SettingsError, match="line: .* takes 83 ms a frame on this computer"):
                slot.swap(model_copy)
        assert (slot.model != before) == bool(slot.earlier[0]) == (times_as_slow == 1)
    finally:
        slot.close()


@pytest.mark.parametrize("change", ["kinds", "thresholds"])
def test_a_model_that_does_the_same_work_as_the_one_in_service_is_never_too_slow(model_copy, tmp_path, change):
    section = PipelineSection(camera="top", model=model_copy, budget_ms=1e-3)
    slot = ActiveModel("line", section, KeptThresholds(tmp_path / "thresholds.json"), threads=1)
    slot.load()
    try:
        before, artifact = slot.model, Artifact.load(model_copy)
        if change == "kinds":
            width = 3 * artifact.array("memory_bank").shape[1]
            rows = np.random.default_rng(0).normal(size=(4, width)).astype(np.float32)
            keep_kinds(artifact, KindExamples(["scratch", "dent"] * 2, rows, range(4)))
        else:
            write_thresholds(artifact, *thresholds_by_hand(artifact, None, review=0.3, reject=0.4))
        slot.swap(model_copy)
        assert slot.model == Artifact.load(model_copy).manifest.manifest_sha256 != before
        assert slot.knows_kinds == (change == "kinds")
    finally:
        slot.close()


def test_a_model_within_the_budget_takes_the_place(trained_model, tmp_path, caplog):
    section = PipelineSection(camera="top", model=trained_model, budget_ms=1e6)
    slot = ActiveModel("line", section, KeptThresholds(tmp_path / "thresholds.json"), threads=1)
    slot.load()
    try:
        slot.swap(trained_model)
        assert slot.earlier[0] and caplog.text == ""
    finally:
        slot.close()
