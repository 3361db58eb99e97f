"""The memory bank: how rows are chosen, and how new patches are merged into a bank that keeps its size."""

from __future__ import annotations

import numpy as np
import pytest

from edgead.adapt.memory_bank.coreset import BankRule, choose_memory_bank, merge, spacing
from edgead.adapt.memory_bank.folds import FOLDS, deal_folds, find_stand_ins
from edgead.heads.nearest import BANK, ROW_FOLDS, STAND_INS, without_fold


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


def bank_without(bank, row_folds, stand_ins, fold):
    found, metric = without_fold({BANK: bank, ROW_FOLDS: row_folds, STAND_INS: stand_ins}, fold)
    assert metric is None
    return found


@pytest.fixture
def stood_in(patches):
    """A bank of patches in four folds, and its stand-ins."""
    fold = np.arange(600) % 4
    chosen = choose_memory_bank(patches, BankRule(1.0, 100, seed=3))
    return fold, chosen, find_stand_ins(patches, fold, chosen)


def test_nothing_that_a_fold_gave_is_left_without_it(patches, stood_in):
    fold, chosen, stand_ins = stood_in
    for left_out in range(4):
        bank = bank_without(patches[chosen], fold[chosen], stand_ins, left_out)
        assert len(bank) == 100
        assert (distances(bank, patches[fold != left_out]).min(axis=1) == 0).all()


def test_stand_ins_are_what_greedy_k_centre_goes_on_to_choose(patches, stood_in):
    fold, chosen, stand_ins = stood_in
    bank, of_row = patches[chosen], fold[chosen]
    for left_out in range(4):
        rows, rest = bank[of_row != left_out], patches[fold != left_out]
        for found in stand_ins[of_row == left_out]:
            away = distances(rest, rows).min(axis=1)
            assert distances(found[None], rows).min() == pytest.approx(away.max(), rel=1e-6)
            rows = np.concatenate([rows, found[None]])


@pytest.mark.parametrize("left_out", [0, 1])
def test_a_fold_without_others_beside_it(patches, left_out):
    """All of one fold: nothing can stand in. Two patches of another: both do, and one again."""
    fold, chosen = np.zeros(600, int), np.arange(20)
    assert (find_stand_ins(patches, fold, chosen) == patches[chosen]).all()
    fold[[0, 300]] = 1
    fold = np.abs(fold - left_out)
    stand_ins = find_stand_ins(patches, fold, chosen)
    without = stand_ins[fold[chosen] == left_out]
    assert set(map(tuple, without.tolist())) == set(map(tuple, patches[[0, 300]].tolist()))


def test_what_other_folds_have_is_as_near_as_in_a_bank_of_their_own(patches, stood_in):
    fold, chosen, stand_ins = stood_in
    trap, made, fresh = [], [], []
    for left_out in range(4):
        rest, own = patches[fold != left_out], patches[fold == left_out]
        alone = rest[choose_memory_bank(rest, BankRule(1.0, 100, seed=3))]
        bank = patches[chosen]
        trap.append(distances(own, bank[fold[chosen] != left_out]).min(axis=1).mean())
        made.append(distances(own, bank_without(bank, fold[chosen], stand_ins, left_out)).min(axis=1).mean())
        fresh.append(distances(own, alone).min(axis=1).mean())
    assert np.mean(made) == pytest.approx(np.mean(fresh), rel=0.03)
    assert np.mean(trap) > 1.03 * np.mean(fresh)


def test_folds_are_dealt_by_whole_groups():
    groups = np.repeat(np.arange(20), 3)
    fold = deal_folds(groups, 0)
    assert all(len(set(fold[groups == group])) == 1 for group in groups)
    assert np.bincount(fold).tolist() == [6] * FOLDS
    assert sorted(deal_folds([5, 5, 9], 1).tolist()) in ([0, 0, 1], [0, 1, 1])


def test_what_is_learnt_is_dealt_evenly():
    learnt = [number != 3 for number in range(FOLDS)]
    fold = deal_folds(range(FOLDS), 0, learnt=learnt)
    assert sorted(fold[learnt].tolist()) == list(range(FOLDS - 1)) and fold[3] == 0


def test_spacing_is_the_smallest_distance_of_two_rows(patches):
    between = distances(patches, patches)
    np.fill_diagonal(between, np.inf)
    assert spacing(patches) == pytest.approx(between.min(), rel=1e-5)
    assert spacing(patches[:2]) == pytest.approx(between[0, 1], rel=1e-5)
    assert spacing(patches[:1]) == 0


def test_merge_keeps_the_size_and_covers_old_and_new(patches):
    bank = patches[choose_memory_bank(patches, BankRule(1.0, 100))]
    new = patches[:200] + np.float32(0.5)
    merged = merge(bank, new)
    assert merged.bank.shape == bank.shape
    assert 0 < merged.added < 100
    old = (merged.bank == bank).all(axis=1)  # each in its place, which says of which fold it is
    assert (merged.new == ~old).all()
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
