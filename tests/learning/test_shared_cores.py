"""Workers take items in turns: in order, bounded, and with errors in their place."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from edgead.adapt.workers import in_order


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("items", [0, 1, 2, 17])
def test_results_come_in_the_order_of_the_items_and_no_worker_has_two(workers, items):
    waits, busy = np.random.default_rng(workers).uniform(0, 0.004, items), [threading.Lock() for _ in range(workers)]

    def use(worker, item):
        assert busy[worker].acquire(blocking=False)
        time.sleep(waits[item])
        busy[worker].release()
        return item

    assert list(in_order(range(workers), use, range(items))) == list(range(items))


def test_what_is_not_taken_is_not_made_without_end():
    made = []
    results = in_order([0, 1], lambda _, item: made.append(item), iter(range(1000)))
    next(results)
    time.sleep(0.05)
    assert len(made) <= 5
    results.close()
    assert len(made) <= 5


def test_an_error_is_raised_in_its_place_and_ends_it():
    def use(_, item):
        if item == 3:
            raise ValueError("the third")
        return item

    taken, results = [], in_order([0, 1], use, iter(range(100)))
    with pytest.raises(ValueError, match="the third"):
        for result in results:
            taken.append(result)
    assert taken == [0, 1, 2] and list(results) == []
