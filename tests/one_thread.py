"""Fixture of tests whose networks are small: one thread."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Networks this small lose by a second thread, most of all on a busy machine."""
    import torch

    from edgead import kernels

    threads = torch.get_num_threads(), kernels.threads()
    torch.set_num_threads(1)
    kernels.set_threads(1)
    yield
    torch.set_num_threads(threads[0])
    kernels.set_threads(threads[1])
