"""Changes of the model in service that come at the same time, and what memory they leave behind."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager

import pytest

pytest.importorskip("edgead.daemon.model_slot")
from edgead.daemon.model_slot import ModelSlot, SlotBusyError
from edgead.daemon.thresholds import KeptThresholds, Thresholds
from edgead.site.schema import PipelineSection


@pytest.fixture
def slot(trained_model, tmp_path):
    section = PipelineSection(camera="top", model=trained_model)
    slot = ModelSlot("line", section, KeptThresholds(tmp_path / "thresholds.json"), threads=1)
    slot.load()
    yield slot
    slot.close()


@contextmanager
def exchange_under_way(slot, monkeypatch):
    entered, released = threading.Event(), threading.Event()
    tested = slot._tested

    def slowly(path):
        entered.set()
        assert released.wait(20)
        return tested(path)

    monkeypatch.setattr(slot, "_tested", slowly)
    thread = threading.Thread(target=slot.swap, args=(slot.path,))
    thread.start()
    assert entered.wait(5)
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
            lambda: slot.set_thresholds(Thresholds.checked(review=1, reject=2, by="Anna")),
        ):
            with pytest.raises(SlotBusyError, match="line: its model is being exchanged or tested: try again"):
                change()
        assert time.monotonic() - begin < 4
        assert slot.thresholds == before
    assert slot.self_test().passed and slot.can_roll_back
    slot.roll_back()


def test_memory_is_given_back_after_an_exchange(slot, monkeypatch):
    given_back = []
    monkeypatch.setattr("edgead.daemon.heap.give_back", lambda: given_back.append(slot.model))
    slot.swap(slot.path)
    assert given_back == [slot.model]
