"""The event loop of the page rests when its work takes more than its share, and answers at once after a rest."""

from __future__ import annotations

import asyncio
import threading
import time
from types import SimpleNamespace

import pytest

pytest.importorskip("uvicorn")
from edgead.line.web.load_limits import paced_loop


def in_paced_thread(work):
    """Run a coroutine in a thread of its own; gives its result, the thread's seconds of work and those that passed."""
    found = []

    def serve():
        loop = paced_loop()
        worked_s, begin_s = time.thread_time(), time.monotonic()
        try:
            found.append(loop.run_until_complete(work()))
            found.extend([time.thread_time() - worked_s, time.monotonic() - begin_s])
        finally:
            loop.close()

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join(30)
    return found


def spin(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_a_busy_loop_takes_its_share():
    async def busy():
        end = time.monotonic() + 3
        while time.monotonic() < end:
            spin(0.005)
            await asyncio.sleep(0)

    _, worked_s, passed_s = in_paced_thread(busy)
    assert worked_s < 0.3 + 0.1 * passed_s + 0.05
    assert worked_s > 0.2  # it is not starved either


@pytest.fixture
def rests(monkeypatch):
    """The rests that a selector takes, in seconds."""
    taken = []

    def sleep(seconds):
        taken.append(seconds)
        time.sleep(seconds)

    clock = SimpleNamespace(sleep=sleep, monotonic=time.monotonic, thread_time=time.thread_time)
    monkeypatch.setattr("edgead.line.web.load_limits.time", clock)
    return taken


def test_a_page_that_has_rested_answers_at_once(rests):
    async def page():
        for _ in range(20):  # a tenth of a second of work, as for loading the page
            spin(0.005)
            await asyncio.sleep(0)

    assert in_paced_thread(page)[1] >= 0.1
    assert rests == []


def test_a_large_debt_is_paid_in_short_rests(rests):
    async def one_long_answer():
        spin(1.0)
        for _ in range(3):
            await asyncio.sleep(0)

    in_paced_thread(one_long_answer)
    assert len(rests) >= 3 and set(rests) == {0.5}
