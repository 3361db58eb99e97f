"""Clocks that show what no clock should: frames have their ids, and readers go on."""

from __future__ import annotations

import os
from contextlib import closing
from datetime import datetime, timedelta, timezone
from uuid import UUID

import numpy as np
import pytest

from edgead.sources.contract import new_id
from edgead.sources.frame_memory import create_memory
from edgead.sources.reader import _put
from edgead.types import Frame


@pytest.mark.parametrize(
    "at",
    [
        datetime(1969, 12, 31, tzinfo=timezone.utc),
        datetime(1, 1, 1, tzinfo=timezone.utc) + timedelta(days=1),
        datetime(9999, 12, 31, tzinfo=timezone.utc),
    ],
    ids=str,
)
def test_an_id_is_made_at_any_time_that_a_clock_can_show(at):
    assert UUID(new_id(at)).version == 7


def test_the_clock_before_1970_ends_no_reader():
    image = np.zeros((4, 5, 3), np.uint8)
    frame = Frame(image, 3, 7, datetime(1969, 1, 1, tzinfo=timezone.utc), "x")
    memory = create_memory(image)
    with closing(memory):
        with open(os.devnull, "wb") as nobody:
            _put(type("Channel", (), {"send": lambda *_: None, "fileno": nobody.fileno})(), memory, frame)
        assert memory.newest(-1).captured_us == 0
