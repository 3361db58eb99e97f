"""A pipeline of several products compares each with its own, and reports the product that has changed."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("edgead.line.daemon.drift")
from test_daemon_drift import Slot, parts
from test_drift import scores_of

from edgead.errors import SettingsError
from edgead.line.daemon.drift import PipelineDrift
from edgead.line.drift import DriftSection

NAMES = ("", "lid", "cap / blue: 2")
SECTION = DriftSection(average_run_length=100_000)


class SlotOf(Slot):
    def __init__(self, recipe):
        super().__init__()
        self.model = f"of {recipe}"


class OfRecipe:
    """Takes parts of one recipe, as `parts` gives them."""

    def __init__(self, drift, recipe):
        self.drift, self.recipe = drift, recipe

    def add(self, frame, verdict):
        self.drift.add(self.recipe, frame, verdict)


@pytest.fixture
def opened(tmp_path):
    """Makes the drift of a pipeline with two recipes, with what gives it parts."""

    def opened(section=SECTION):
        drift = PipelineDrift("line", {name: SlotOf(name) for name in NAMES}, section, tmp_path / "drift")
        return drift, lambda recipe, scores: parts(OfRecipe(drift, recipe), scores, model=f"of {recipe}")

    return opened


def good(count, seed=1):
    return np.minimum(scores_of(np.random.default_rng(seed), count), 1.4)


def test_each_product_counts_its_own_parts_and_the_last_one_is_shown(opened):
    drift, judge = opened()
    assert drift.state is None
    with pytest.raises(SettingsError, match="line: no drift is watched"):
        drift.require_watched()
    for recipe, count in zip(NAMES, (3, 5, 7), strict=True):
        judge(recipe, good(count))
        assert (drift.state.parts, drift.state.state) == (count, "ok")
    judge("lid", good(1))
    assert drift.state.parts == 6


@pytest.mark.parametrize("recipe", NAMES)
def test_the_product_that_has_changed_is_named_until_it_is_accepted(opened, recipe, caplog):
    drift, judge = opened()
    for name in NAMES:
        judge(name, good(20))
    judge(recipe, [100.0] * 60)
    other = next(name for name in NAMES if name != recipe)
    judge(other, good(20))
    begin = f"recipe {recipe}: parts look" if recipe else "parts look"
    assert drift.state.state == "warning" and drift.state.reason.startswith(begin)
    assert f"line/{recipe}: drift: parts look" in caplog.text if recipe else "line: drift: parts look" in caplog.text
    drift.start_again()
    judge(recipe, good(1))
    assert (drift.state.state, drift.state.parts) == ("ok", 1)
    judge(other, good(1))
    assert drift.state.parts == 41, "what did not warn goes on"


def test_without_a_warning_all_start_again(opened):
    drift, judge = opened()
    for name in NAMES[:2]:
        judge(name, good(5))
    drift.start_again()
    for name in NAMES[:2]:
        judge(name, good(1))
        assert drift.state.parts == 1


def test_states_of_all_products_are_kept_whatever_their_names(opened, tmp_path):
    drift, judge = opened()
    for recipe, count in zip(NAMES, (3, 5, 7), strict=True):
        judge(recipe, good(count))
    drift.save()
    assert len(list((tmp_path / "drift").iterdir())) == len(NAMES)
    again, judge = opened()
    for recipe, count in zip(NAMES, (3, 5, 7), strict=True):
        judge(recipe, good(1))
        assert again.state.parts == count + 1


def test_a_warning_of_a_product_that_has_not_come_since_the_start_stands(opened):
    drift, judge = opened()
    judge("lid", [*good(20), *[100.0] * 60])
    drift.save()
    again, judge = opened()
    judge("", good(1))
    assert again.state.state == "warning" and again.state.reason.startswith("recipe lid: ")
    assert again.state.parts == 80


def test_nothing_is_watched_where_nothing_is_to_be(opened, tmp_path):
    drift, judge = opened(None)
    judge("lid", good(3))
    drift.save()
    assert drift.state is None and not (tmp_path / "drift").exists()
