"""The memory bank: how rows are chosen, and how new patches are merged into a bank that keeps its size."""

from __future__ import annotations

import numpy as np
import pytest

from edgead.memory_bank.coreset import BankRule, choose_memory_bank, merge, spacing


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.linalg.norm(a[:, None].astype(np.float64) - b, axis=2)


@pytest.fixture
def patches() -> np.ndarray:
    return np.random.default_rng(0).random((600, 8), dtype=np.float32)


@pytest.mark.parametrize(
    ("rule", "count"),
    [(BankRule(0.1, 1000), 60), (BankRule(1.0, 50), 50), (BankRule(0.001, 50, least=9), 9), (BankRule(1.0, 9999), 600)],
)
def test_as_many_rows_as_the_rule_says(patches, rule, count):
    chosen = choose_memory_bank(patches, rule)
    assert len(set(chosen.tolist())) == count
    assert (chosen == choose_memory_bank(patches, rule)).all()


def test_spacing_is_the_smallest_distance_of_two_rows(patches):
    between = distances(patches, patches)
    np.fill_diagonal(between, np.inf)
    assert spacing(patches) == pytest.approx(between.min(), rel=1e-5)
    assert spacing(patches[:1]) == 0


def test_merge_keeps_the_size_and_covers_old_and_new(patches):
    bank = patches[choose_memory_bank(patches, BankRule(1.0, 100))]
    new = patches[:200] + np.float32(0.5)
    merged = merge(bank, new)
    assert merged.bank.shape == bank.shape
    assert 0 < merged.added < 100
    old = distances(merged.bank, bank).min(axis=1) == 0
    assert merged.added == 100 - old.sum()
    both = np.concatenate([bank, new])
    assert distances(both, merged.bank).min(axis=1).max() == pytest.approx(merged.radius, rel=1e-5)
    # What the bank stood for stays covered: within what it was before, and the radius.
    before = distances(patches, bank).min(axis=1).max()
    assert distances(patches, merged.bank).min(axis=1).max() <= before + merged.radius + 1e-6


def test_merge_of_nothing_changes_nothing(patches):
    merged = merge(patches, patches[:0])
    assert merged.added == 0
    assert merged.bank is patches
