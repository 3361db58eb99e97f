"""MuSc equals the authors' code on the same random weights, and no longer when one thing in it is turned.

Their distances are float32 products: what is left is 1e-5.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")
pytest.importorskip("timm", reason="foundation backbones are timm's")

import musc_authors as authors  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from authors import authors_numbers  # noqa: E402
from command_line import run_here  # noqa: E402
from towers_authors import draw  # noqa: E402

from edgead.errors import SettingsError  # noqa: E402
from edgead.images.files import load_image  # noqa: E402
from edgead.metrics.ranking import auroc  # noqa: E402
from edgead.unlabelled.screening.mutual import MutualRule, interval_average  # noqa: E402
from edgead.unlabelled.screening.run import screen  # noqa: E402
from edgead.unlabelled.screening.screeners import ScreenPlan  # noqa: E402
from edgead_foundation import musc  # noqa: E402
from edgead_foundation.backbones import files as tower_files  # noqa: E402
from edgead_foundation.backbones.names import TOWERS  # noqa: E402

THEIRS = authors_numbers("musc")
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The authors' weights as `edgead weights` writes them."""
    folder = tmp_path_factory.mktemp("musc")
    names, shapes = (THEIRS[kind].tolist() for kind in ("names", "shapes"))
    state = {
        f"visual.{name}": draw(name, tuple(map(int, shape.split()))) for name, shape in zip(names, shapes, strict=True)
    }
    torch.save(state, folder / "clip.pth")
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        tower_files.convert(folder / "clip.pth", folder / "clip.safetensors", "clip_vitb16")
    return folder / "clip.safetensors"


def small(patch):
    sizes = {
        "width": authors.WIDTH,
        "depth": authors.DEPTH,
        "heads": authors.HEADS,
        "side": authors.PATCH * authors.GRID,
    }
    patch.setitem(TOWERS, "clip_vitb16", replace(TOWERS["clip_vitb16"], **sizes))
    patch.setattr(musc, "SIDE", authors.SIDE)


@pytest.fixture(autouse=True)
def small_tower(monkeypatch):
    small(monkeypatch)


@pytest.fixture(scope="module")
def pile(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pile")
    paths = [folder / f"{number}.png" for number in range(authors.IMAGES)]
    for number, path in enumerate(paths):
        cv2.imwrite(str(path), authors.draw_image(number)[..., ::-1])
    return paths


def describe(weights, pile, folder) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and embeddings of the pile."""
    return musc.MuscScorer(ScreenPlan(str(weights))).describe(pile, folder / "tokens.npy")


@pytest.fixture(scope="module")
def described(weights, pile, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        return describe(weights, pile, tmp_path_factory.mktemp("described"))


def ours(tokens, embeddings) -> dict[str, np.ndarray]:
    """What the authors' numbers are compared with, by their names."""
    found = {"embeddings": (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True))[:, ::16]}
    for reach in musc.REACHES:
        # Theirs are noted before they are scaled to length 1.
        plain = [musc.neighbourhoods(block, reach)[::7] for block in tokens[0]]
        found[f"aggregated_{reach}"] = np.stack(plain, axis=1)
    parts = []
    with pytest.MonkeyPatch.context() as patch:
        mutual = musc.mutual_distances
        patch.setattr(musc, "mutual_distances", lambda *given: parts.append(mutual(*given)) or parts[-1])
        maps = musc.mutual_maps(tokens, 0.3)
    found["patch_scores"] = np.stack(parts)[:, -3:]
    found["maps"], found["peaks"] = musc.pixel_maps(maps, authors.SIDE)[:, ::9, ::9], musc.peaks(maps, authors.SIDE)
    found["scores"] = musc.image_scores(maps, embeddings, authors.SIDE)
    return found


def differing(found: dict[str, np.ndarray]) -> dict[str, float]:
    """Which numbers are others, and how far, in parts of the largest."""
    far = {
        name: np.abs(value - THEIRS[name]).max() / np.abs(THEIRS[name]).max()
        if value.shape == THEIRS[name].shape
        else np.inf
        for name, value in found.items()
    }
    return {name: value for name, value in far.items() if not value <= TOLERANCE}


def test_equal_to_the_authors_code(weights, pile, described):
    found = ours(*described)
    assert found.keys() == THEIRS.keys() - {"names", "shapes"}
    assert differing(found) == {}
    scores, maps = musc.MuscScorer(ScreenPlan(str(weights)))(pile, range(len(pile)), lambda *given: None)
    np.testing.assert_array_equal(scores, found["scores"])
    assert maps.shape == (authors.IMAGES, 7, 7)


def test_neighbourhoods_of_other_sizes_are_those_of_the_paper(weights, pile):
    # By hand: the mean over all images, weighted by the cosine, and the image alone.
    def scores(*alike):
        rule = MutualRule(alike=alike)
        found = screen(pile, ScreenPlan(str(weights), rule, method="musc"))
        return np.array([one.score for one in sorted(found.images, key=lambda one: one.path.name)])

    alone, tower = scores(1), musc.ClipTokens(weights)
    rows = np.stack([tower(load_image(path))[1] for path in pile]).astype(float)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = rows @ rows.T
    expected = (alone + cosines @ alone / cosines.sum(axis=1)) / 2
    np.testing.assert_allclose(scores(1, authors.IMAGES), expected, rtol=1e-6)
    assert np.abs(scores(1, 2, 3) - expected).max() > 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--alike", "--neighbours", "1,x"), "--neighbours '1,x': whole numbers with commas, such as 1,8,9"),
        (("--alike", "--neighbours", "0,2"), "alike images are counted from 1, the image itself; found 0"),
    ],
)
def test_neighbours_that_cannot_be_are_refused(pile, tmp_path, options, message):
    ended = run_here("screen", pile[0].parent, "-o", tmp_path / "out", *options)
    assert ended.returncode == 2 and message in ended.stderr, ended.stderr


def test_musc_knows_no_parts(weights, pile):
    with pytest.raises(SettingsError, match="musc compares each image with all others: leave out --group"):
        screen(pile, ScreenPlan(str(weights), group="(.)", method="musc"))


def functional(name, change):
    """Turn one function of torch, in this module alone."""
    plain = getattr(F, name)
    parts = {each: getattr(F, each) for each in ("layer_norm", "avg_pool2d", "interpolate")}
    changed = SimpleNamespace(**{**parts, name: partial(change, plain)})
    return lambda patch: patch.setattr(musc, "F", changed)


def lengths_before_the_mean(patch):
    patch.setattr(
        musc,
        "aggregate",
        lambda tokens, reach: (
            F.avg_pool2d(F.normalize(F.layer_norm(torch.tensor(tokens), tokens.shape), dim=0), reach, 1, reach // 2)
            .flatten(1)
            .T.contiguous()
            .numpy()
        ),
    )


def interval_of_all(patch):
    patch.setattr(
        musc,
        "interval_average",
        lambda distances, apart, share: interval_average(distances, apart, share * len(apart) / apart.sum()),
    )


def itself_among_the_others(patch):
    patch.setattr(
        musc,
        "interval_average",
        lambda distances, apart, share: interval_average(distances, np.ones_like(apart), share),
    )


def constrained_by(*, unscaled=False, embeddings=None, alike=None):
    def turn(patch):
        plain = musc.constrain

        def changed(scores, descriptors, given, **least):
            found = plain(
                scores, descriptors if embeddings is None else embeddings(descriptors), alike or given, **least
            )
            return scores.min() + found * np.ptp(scores) if unscaled else found

        patch.setattr(musc, "constrain", changed)

    return turn


def half_precision(patch):
    plain = musc.ClipTokens.__call__

    def halved(self, image):
        tokens, embedding = plain(self, image)
        return tokens.astype(np.float16).astype(np.float32), embedding

    patch.setattr(musc.ClipTokens, "__call__", halved)


def tower(**changes):
    plain = musc.build_tower
    return lambda patch: patch.setattr(musc, "build_tower", lambda *args, **given: plain(*args, **{**given, **changes}))


TURNED = {
    "zeros outside do not count": functional(
        "avg_pool2d", lambda plain, *given, **options: plain(*given, **options, count_include_pad=False)
    ),
    "each place is normalised alone": functional(
        "layer_norm", lambda plain, x, shape: plain(x.movedim(1, 3), shape[:1]).movedim(3, 1)
    ),
    "length 1 before the mean": lengths_before_the_mean,
    "the interval is of all images": interval_of_all,
    "an image is among the others": itself_among_the_others,
    "corners are not aligned": functional(
        "interpolate", lambda plain, *given, **options: plain(*given, **{**options, "align_corners": False})
    ),
    "scores are not rescaled": constrained_by(unscaled=True),
    "alike by four": constrained_by(alike=(1, 2, 3, 4)),
    "embeddings about their mean": constrained_by(embeddings=lambda rows: rows - rows.mean(axis=0)),
    "three neighbourhoods are two": lambda patch: patch.setattr(musc, "REACHES", (1, 3)),
}
TURNED_IN_TOWER = {
    "half precision": half_precision,
    "antialiased positions": tower(positions="antialiased"),
    "blocks one too early": lambda patch: patch.setattr(
        musc, "compared_blocks", lambda depth: tuple(depth * stage // 4 - 1 for stage in range(1, 5))
    ),
    "images resized otherwise": lambda patch: patch.setattr(musc, "RESAMPLING", musc.Image.Resampling.BILINEAR),
}


@pytest.mark.parametrize("turned", TURNED)
def test_one_thing_turned_is_seen(turned, described, monkeypatch):
    TURNED[turned](monkeypatch)
    far = differing(ours(*described))
    assert far and max(far.values()) > 3 * TOLERANCE


@pytest.mark.parametrize("turned", TURNED_IN_TOWER)
def test_one_thing_turned_in_the_tower_is_seen(turned, weights, pile, monkeypatch, tmp_path):
    TURNED_IN_TOWER[turned](monkeypatch)
    far = differing(ours(*describe(weights, pile, tmp_path)))
    assert far and max(far.values()) > 3 * TOLERANCE


@pytest.fixture(scope="module")
def ranked(weights, pile):
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        return screen(pile, ScreenPlan(str(weights), method="musc")).images


def test_the_order_of_the_pile_changes_nothing(weights, pile, ranked):
    assert ranked[0].path == pile[-1]
    for one, other in zip(ranked, screen(pile[::-1], ScreenPlan(str(weights), method="musc")).images, strict=True):
        assert (one.path, one.score) == (other.path, other.score)
        np.testing.assert_array_equal(one.patch_scores, other.patch_scores)


def test_shuffled_labels_give_chance(pile, ranked):
    labels, scores = [one.path == pile[-1] for one in ranked], [one.score for one in ranked]
    rng = np.random.default_rng(0)
    assert auroc(labels, scores) == 1
    assert np.mean([auroc(rng.permutation(labels), scores) for _ in range(600)]) == pytest.approx(0.5, abs=0.05)


def test_the_verb_takes_a_file_of_clip(weights, pile, tmp_path):
    out = tmp_path / "out"
    done = run_here("screen", *pile, "-o", out, "--method", "musc", "--backbone", weights, "--json")
    assert done.returncode == 0, done.stderr
    ranked = [row["score"] for row in json.loads(done.stdout)["ranking"]]
    np.testing.assert_allclose(ranked, np.sort(THEIRS["scores"])[::-1], atol=TOLERANCE)
    assert "count as different parts" in (out / "limits.txt").read_text()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "name a file of its weights with --backbone"),
        (("--backbone", "nowhere"), "there is no file nowhere"),
        (("--backbone", "nowhere", "--zoom", "2"), "leave out --zoom"),
    ],
)
def test_what_the_paper_does_not_have_is_refused(given, message, pile, tmp_path):
    done = run_here("screen", *pile, "-o", tmp_path / "out", "--method", "musc", *given)
    assert done.returncode == 2 and message in done.stderr.replace("\n", " ")
    assert not (tmp_path / "out").exists()


def test_another_tower_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(musc, "recognise", lambda file: "dinov2_vits14")
    (tmp_path / "dino.safetensors").write_bytes(b"")
    with pytest.raises(SettingsError, match="holds dinov2_vits14: musc compares images with CLIP"):
        musc.ClipTokens(tmp_path / "dino.safetensors")
