"""The recipe of a part chooses the model and the thresholds that judge it; an unknown one is never taken for OK."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
from fakes import make_verdict

pytest.importorskip("edgead.line.daemon.active_model")
from edgead.artifact.limits import HIGHEST, LOWEST
from edgead.errors import SettingsError
from edgead.line.daemon.active_model import ActiveModel, Recipes
from edgead.line.daemon.judge_and_deliver import Judging, Receivers
from edgead.line.daemon.thresholds import KeptThresholds
from edgead.line.site.schema import PipelineSection
from edgead.sources.contract import FrameCounter
from edgead.synthetic.line import render
from edgead.types import Part

NEVER, ALWAYS = {"review": HIGHEST, "reject": HIGHEST}, {"review": LOWEST, "reject": LOWEST}


def section(model, **more):
    recipes = {"cap, blue": {"model": model, "thresholds": ALWAYS}, "lid": {"model": model, "thresholds": NEVER}}
    return PipelineSection.model_validate({"camera": "top", "model": model, "recipes": recipes, **more})


@pytest.fixture
def opened(tmp_path):
    """Makes the recipes of a section, loaded, with what judges a part by them."""
    made = []

    def opened(section):
        kept = KeptThresholds(tmp_path / "thresholds.json")
        own = ActiveModel("line", section, kept, threads=1)
        recipes = Recipes(own)
        made.extend([own, recipes])
        own.load()
        recipes.load()
        frame = FrameCounter("top").capture(render(1)[0])
        return own, lambda recipe: recipes.step(replace(frame, part=Part("A1", recipe=recipe)))

    yield opened
    for one in made:
        one.close()


def test_a_recipe_chooses_the_thresholds_that_judge_and_an_unknown_one_is_refused(trained_model, opened):
    own, judge = opened(section(trained_model))
    assert [judge(recipe).decision for recipe in ("cap, blue", "lid", "", "cap, blue")] == [
        "reject",
        "ok",
        judge("").decision,
        "reject",
    ]
    assert judge("").threshold == own.thresholds.reject and judge("lid").threshold == HIGHEST
    with pytest.raises(SettingsError, match="its part asks for an unknown recipe, known are cap, blue, lid"):
        judge("cap, green")


def test_an_unknown_recipe_may_be_for_review_and_is_never_ok(trained_model, opened):
    own, judge = opened(section(trained_model, unknown_recipe="review"))
    for limits, decision in ((NEVER, "review"), (ALWAYS, "reject")):
        own.require().set_thresholds(**limits)
        assert judge("cap, green").decision == decision


def test_a_part_of_an_unknown_recipe_belongs_to_no_product_that_is_watched(tmp_path, trained_model):
    one = section(trained_model)
    kept = KeptThresholds(tmp_path / "thresholds.json")
    recipes = Recipes(ActiveModel("line", one, kept))
    frame = FrameCounter("top").capture(render(1)[0])
    asked = ("", "lid", "cap, green")
    assert [recipes.recipe_of(replace(frame, part=Part("A1", recipe=name))) for name in asked] == ["", "lid", None]
    words = section(trained_model, recipes={})
    recipes = Recipes(ActiveModel("line", words, kept))
    assert recipes.recipe_of(replace(frame, part=Part("A1", recipe="lid"))) == ""


def test_without_models_recipes_are_words_for_the_record(trained_model, opened):
    _, judge = opened(section(trained_model, recipes={}))
    assert judge("cap, green").decision == judge("").decision


def test_a_recipe_whose_model_cannot_be_used_is_named_before_the_first_part(trained_model, opened, tmp_path):
    with pytest.raises(SettingsError, match="recipe lid: .*gone is not an edgead model"):
        opened(section(trained_model, recipes={"lid": {"model": tmp_path / "gone"}}))


def test_the_recipe_of_a_frame_is_asked_for_once_where_its_verdict_is_passed_on():
    asked, misfits = [], []
    slot = SimpleNamespace(misfit=lambda frame: misfits.append(frame))
    models = SimpleNamespace(
        step=lambda frame: make_verdict(0.1),
        shown=lambda frame: frame,
        recipe_of=lambda frame: asked.append(frame) or "lid",
        slots={"lid": slot},
    )
    store = SimpleNamespace(add=lambda *given: None, follow=lambda frame: None, keep=lambda *given: None)
    drifts = []
    drift = SimpleNamespace(add=lambda recipe, frame, verdict: drifts.append(recipe))
    judging = Judging("a", models, Receivers(store, (), lambda *given: None, 0), drift, lambda id: None)
    assert judging.judge(FrameCounter("top").capture(render(1)[0])).decision == "ok"
    assert (len(asked), len(misfits), drifts) == (1, 1, ["lid"])
