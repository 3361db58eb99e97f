"""A short soak of the daemon: flat memory and descriptors, and no record lost. Times are for machines of their own."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.soak import soak
from benchmarks.soak_people import People


@pytest.mark.parametrize(
    ("why", "refused"),
    [("a1: the store keeps no image of it", 1), ("line: the store has just removed images of chosen parts", 1)]
    + [("a1: no part of line with that id is marked good", 0)],
)
def test_a_lesson_whose_image_is_gone_is_counted_as_refused(why, refused):
    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json={"verdicts": [{"id": "a1", "images": ["frame"]}]})
        is_lesson = request.url.path == "/api/lessons"
        return httpx.Response(409 if is_lesson else 200, json={"detail": why})

    process: Any = None
    people = People(Path("site.yaml"), process, Path("log"))
    people._client = httpx.Client(base_url="http://127.0.0.1", transport=httpx.MockTransport(answer))
    if refused:
        people._teach()
    else:
        with pytest.raises(RuntimeError, match="/api/lessons: .*is marked good"):
            people._teach()
    assert (people.done["lessons refused"], people.problems) == (refused, [])


@pytest.mark.slow
def test_memory_and_descriptors_stay_flat_and_no_record_is_lost(trained_model, tmp_path):
    soaked = soak(trained_model, tmp_path, minutes=1.5, rate=10, every_s=1)
    assert soaked.exit_code == 0
    assert (soaked.lost, soaked.doubled) == (0, 0)
    assert soaked.records == soaked.counts["judged"] > 100
    # A frame of the conveyor is 0.7 MiB: one that is kept of every second would show as 30 MiB.
    assert soaked.memory_mib.last - soaked.memory_mib.first < 10
    assert soaked.descriptors.last <= soaked.descriptors.first + 1
    assert soaked.threads.last <= soaked.threads.first + 1
    assert json.loads(json.dumps(asdict(soaked)))["records"] == soaked.records
    assert "records lost, doubled | 0, 0" in soaked.table()


@pytest.mark.slow
def test_people_who_change_everything_lose_nothing(trained_model, tmp_path):
    soaked = soak(trained_model, tmp_path, minutes=2, rate=2, every_s=1, people=True)
    # How far they come in that time depends on what else the machine does.
    assert soaked.require_whole().people["reloads"] and soaked.people["models"] >= 2
    assert set(soaked.answers) <= {200, 409}
