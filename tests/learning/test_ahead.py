"""Images made ahead of a training: the same ones in the same order, threads that end, memory that is bounded."""

from __future__ import annotations

import threading

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")

from edgead.workstation.trainer.device import fixed_shapes  # noqa: E402
from edgead.workstation.trainer.prefetch import AHEAD, KeptImages, Prefetcher  # noqa: E402


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("edgead-images")]


@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("begin", [0, 5])
def test_the_same_is_made_by_any_number_of_threads(threads, begin):
    made = []

    def make(number):
        made.append(number)
        return np.random.default_rng(number).integers(1000)

    with Prefetcher(make, 20, threads=threads) as ahead:
        found = [ahead(number) for number in range(begin, 20)]
    assert found == [np.random.default_rng(number).integers(1000) for number in range(begin, 20)]
    assert sorted(made) == list(range(begin, 20))  # each once, and none after the last
    assert not workers()


def test_no_more_is_made_ahead_than_asked_for():
    made, first = [], threading.Event()

    def make(number):
        made.append(number)
        if len(made) == 2 * AHEAD:
            first.set()
        return number

    with Prefetcher(make, 1_000, threads=2) as ahead:
        assert ahead(0) == 0
        assert first.wait(30)
    assert sorted(made) == list(range(2 * AHEAD))


def test_what_fails_fails_where_it_is_asked_for_and_threads_end():
    def make(number):
        if number == 2:
            raise ValueError("two")
        return number

    with Prefetcher(make, 10, threads=2) as ahead:
        assert [ahead(0), ahead(1)] == [0, 1]
        with pytest.raises(ValueError, match="two"):
            ahead(2)
        assert ahead(3) == 3
    with pytest.raises(KeyboardInterrupt), Prefetcher(make, 10, threads=2) as ahead:
        ahead(0)
        raise KeyboardInterrupt
    assert not workers()


def test_images_are_read_once_while_there_is_room():
    read = []

    class Files(list):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    files = Files(np.full((4, 4, 3), number, np.uint8) for number in range(3))
    images = KeptImages(files, most_bytes=2 * 48)
    for _ in range(3):
        assert [int(images[np.int64(number)][0, 0, 0]) for number in range(3)] == [0, 1, 2]
    assert len(images) == 3 and read == [0, 1, 2, 2, 2]


@pytest.mark.parametrize("before", [False, True])
def test_algorithms_are_timed_in_training_alone(before, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", before)
    with pytest.raises(KeyboardInterrupt), fixed_shapes():
        assert torch.backends.cudnn.benchmark
        raise KeyboardInterrupt
    assert torch.backends.cudnn.benchmark == before
