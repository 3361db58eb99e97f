"""`edgead defects` with SeaS and AnoGen on a tiny random Stable Diffusion: of what they make, the form alone."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the workstation's packages")
pytest.importorskip("diffusers", reason="DIFFUSION NOT TESTED: pip install ./plugins/edgead-diffusion")
pytest.importorskip("transformers", reason="DIFFUSION NOT TESTED: pip install ./plugins/edgead-diffusion")

from command_line import Ended, run_here  # noqa: E402
from small_diffusion import write_model  # noqa: E402

from edgead.artifact.manifest import Preprocessing  # noqa: E402
from edgead.dataset.made_sets import read_made  # noqa: E402
from edgead.images.files import load_image, write_image  # noqa: E402
from edgead.synthetic.made_set import Recipe  # noqa: E402
from edgead.synthetic.rejects import by_masks, find_rejects  # noqa: E402
from edgead.workstation.methods.draem.made_pairs import MadePairs  # noqa: E402
from edgead_diffusion.anogen import AnogenPlan  # noqa: E402
from edgead_diffusion.cost import count_passes  # noqa: E402
from edgead_diffusion.learners import boxes_like  # noqa: E402
from edgead_diffusion.made_set import Diffusion, make_by_diffusion  # noqa: E402
from edgead_diffusion.seas import SeasPlan  # noqa: E402
from edgead_diffusion.stable_diffusion import open_stable_diffusion  # noqa: E402

# Of diffusers with numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
SHAPE = HEIGHT, WIDTH = 48, 72


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("small") / "tiny"
    write_model(path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Good parts in `good`, two kinds of rejects in `rejects/test`, and their masks."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for number in range(4):
        write_image(folder / "good" / f"{number}.png", rng.integers(90, 110, (*SHAPE, 3)).astype(np.uint8))
    for kind, left, width in (("dent", 36, 18), ("spot", 6, 9)):
        for number in range(2):
            image, mask = np.full((*SHAPE, 3), 100, np.uint8), np.zeros(SHAPE, np.uint8)
            place = np.s_[12 : 24 + 6 * number, left : left + width]
            image[place], mask[place] = 30, 255
            write_image(folder / "rejects" / "test" / kind / f"{number}.png", image)
            write_image(folder / "rejects" / "ground_truth" / kind / f"{number}_mask.png", mask)
    return folder


def defects(data: Path, output: Path, *words: object) -> Ended:
    return run_here("defects", data / "good", "--from", data / "rejects", "-o", output, "--json", *words)


def test_anogen_through_the_verb(data, weights, tmp_path):
    given = ("--method", "anogen", "--count", 5, "--seed", 3, "--yes", "--set", f"weights={weights}")
    ended = defects(data, tmp_path / "made", *given, "--set", "steps=1", "--set", "sampling_steps=2")
    assert ended.returncode == 0, ended.stderr
    assert "anogen needs a GPU: on this CPU it takes about" in ended.stderr
    report = json.loads(ended.stdout)
    assert report["kinds"] == {"dent": 3, "spot": 2} and report["images_without_a_defect"] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    made = read_made(tmp_path / "made")
    assert made.method == "anogen" and made.seed == 3 and made.learnt is not None
    assert made.learnt.weights == "tiny" and made.learnt.settings["steps"] == 1
    assert len(made.rejects) == 4 and all(one.reject is None for one in made.images)
    for one in made.images:
        image, mask = load_image(tmp_path / "made" / one.image), load_image(tmp_path / "made" / one.mask)[..., 0] > 0
        assert image.shape == (*SHAPE, 3) and mask.shape == SHAPE
        columns = np.flatnonzero(mask.any(axis=0))
        # Widths are those of the rejects, places theirs moved by a tenth of a side; pixels of the model are coarser.
        first, wide = (36, 18) if one.kind == "dent" else (6, 9)
        assert abs(columns.size - wide) <= 3 and first - 0.1 * WIDTH - 4 <= columns[0] <= first + 0.1 * WIDTH + 4
        assert mask.any(axis=0).sum() * mask.any(axis=1).sum() == mask.sum(), "the label is the box"
    pairs = MadePairs(tmp_path / "made", [], Preprocessing(image_size=SHAPE))
    assert len(pairs) == 5


def test_a_run_that_was_stopped_goes_on_and_makes_the_same(data, weights, tmp_path):
    rejects = by_masks(find_rejects(data / "rejects"), data / "rejects" / "ground_truth")
    good = sorted((data / "good").iterdir())
    plan = AnogenPlan(steps=2, batch_size=1, sampling_steps=2)

    def make(folder: Path, progress) -> None:
        model = open_stable_diffusion(weights, device="cpu", force=True)
        recipe = Recipe(count=4, method="anogen")
        make_by_diffusion(Diffusion(model, weights, plan), good, rejects, folder, recipe, progress=progress)

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "make defects":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "a", stop)
    assert [path.name for path in tmp_path.iterdir()] == ["a.checkpoint"]
    seen: list[tuple[str, int, int]] = []
    make(tmp_path / "a", lambda *given: seen.append(given))
    assert {given for given in seen if given[0] != "make defects"} == {("anogen 1", 2, 2), ("anogen 2", 2, 2)}
    make(tmp_path / "b", lambda *given: None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    for path in sorted((tmp_path / "a").rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


@pytest.mark.slow
def test_seas_through_the_verb(data, weights, tmp_path):
    small = ("--set", "sampling_steps=4", "--set", "accumulation=1", "--set", "batch_size=1")
    given = ("--method", "seas", "--set", f"weights={weights}", "--set", "steps=1", "--count", 3, "--yes", *small)
    ended = defects(data, tmp_path / "made", *given)
    assert ended.returncode == 0, ended.stderr
    made = read_made(tmp_path / "made")
    assert made.method == "seas" and made.learnt is not None and made.learnt.settings["guidance"] == 8
    assert json.loads(ended.stdout)["images_without_a_defect"] == 3 - len(made.images)
    for one in made.images:
        assert load_image(tmp_path / "made" / one.image).shape == (*SHAPE, 3)
        assert load_image(tmp_path / "made" / one.mask)[..., 0].any()
    none = defects(data, tmp_path / "none", *given, "--set", "threshold=1")
    assert none.returncode == 2 and "found a defect on none of them" in none.stderr
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--method", "anogen"), "anogen needs --set weights=FOLDER"),
        (("--method", "drawn", "--set", "weights=."), "--set: drawn has no settings"),
        (("--method", "seas", "--set", "weights=.", "--yes"), "no Stable Diffusion: unet, vae"),
        (("--method", "seas", "--set", "weights=.", "--set", "device=tpu"), "unknown device 'tpu'"),
        (("--method", "seas", "--set", "weights=.", "--set", "stops=1"), "seas has no setting stops"),
        (("--method", "seas", "--set", "weights=.", "--where", "places.png"), "seas makes defects where"),
    ],
)
def test_what_does_not_fit_is_refused(data, tmp_path, monkeypatch, words, expected):
    monkeypatch.chdir(tmp_path)
    ended = defects(data, tmp_path / "made", *words)
    assert ended.returncode == 2 and expected in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_rejects_without_masks_a_missing_package_and_a_cpu_without_consent_are_refused(
    data, weights, tmp_path, monkeypatch
):
    given = ("--method", "anogen", "--set", f"weights={weights}")
    ended = defects(data, tmp_path / "made", *given)
    assert ended.returncode == 2 and "--yes waits for it" in ended.stderr
    kinds = data / "rejects" / "test"
    ended = run_here("defects", data / "good", "--from", kinds / "dent", "-o", tmp_path / "made", *given)
    assert ended.returncode == 2 and "where are the defects" in ended.stderr
    ended = run_here("defects", data / "good", "-o", tmp_path / "made", *given)
    assert ended.returncode == 2 and "learns from rejects: name them, --from" in ended.stderr
    monkeypatch.setitem(sys.modules, "diffusers", None)
    ended = defects(data, tmp_path / "made", *given, "--yes")
    assert ended.returncode == 2 and "edgead-diffusion" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_at_a_terminal_the_cost_is_asked(data, weights, tmp_path, monkeypatch):
    answers = io.StringIO("n\n")
    monkeypatch.setattr(answers, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", answers)
    ended = defects(data, tmp_path / "made", "--method", "anogen", "--set", f"weights={weights}")
    assert ended.returncode == 1 and "needs a GPU" in ended.stderr and "Wait for it?" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_cost_is_counted_in_passes_of_the_network():
    # By hand: 3 passes for each of 2 x 4 examples of 10 steps, and 2 x 5 to sample each of 7 images.
    assert count_passes(AnogenPlan(steps=10, batch_size=4, sampling_steps=5), 2, 7) == 3 * 10 * 4 * 2 + 2 * 5 * 7
    # 2 defects and 2 good parts in each of 3 batches of a step, learnt from (3) and looked at for masks (1).
    plan = SeasPlan(steps=10, batch_size=2, accumulation=3, sampling_steps=5)
    assert count_passes(plan, 2, 7) == (3 + 1) * 10 * 2 * (2 + 2) * 3 + 2 * 5 * 7


def test_boxes_are_of_the_sizes_and_near_the_places_of_the_rejects():
    masks = [np.zeros((100, 100), np.uint8) for _ in range(2)]
    masks[0][20:30, 40:80] = 1
    masks[1][0:20, 90:100] = 255
    place, rule = boxes_like(masks, 50)
    assert rule.width == (0.1, 0.4) and rule.height == (0.1, 0.2)
    expected = np.zeros((50, 50), np.uint8)
    expected[5:20, 15:45] = expected[0:15, 40:50] = 255
    np.testing.assert_array_equal(place, expected)
