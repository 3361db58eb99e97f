"""EfficientAD gives what nelson1425/EfficientAd gives on identical random weights, and not where one thing is flipped.

The numbers are those of its code as it stands; `fixtures/efficient_ad/make.py` says how they came about.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")

import torch.nn.functional as F  # noqa: E402
from random_networks import draw_image, draw_weights  # noqa: E402
from torch import nn  # noqa: E402

from edgead.adapt.methods.method import Course  # noqa: E402
from edgead.workstation.methods.efficient_ad import detector as efficient_ad  # noqa: E402
from edgead.workstation.methods.efficient_ad import student_teacher, teacher  # noqa: E402
from edgead.workstation.methods.efficient_ad.detector import EfficientAD  # noqa: E402

PUBLIC = json.loads((Path(__file__).parents[1] / "fixtures" / "efficient_ad" / "public.json").read_text())
BEFORE, TRAINING = PUBLIC["before training"], PUBLIC["training"]
OURS = SimpleNamespace(student_teacher=student_teacher, teacher=teacher)
SEEDS = {"teacher": 1, "student": 2, "autoencoder": 3}
IMAGE_SIZE = (256, 256)


@pytest.fixture(scope="module", autouse=True)
def forget():
    yield
    Remembered.results.clear()


def batch(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()


def good_image(number: int = 0) -> np.ndarray:
    return draw_image(20 + number, 256)


def other_image() -> np.ndarray:
    """The middle of the penalty image of 512 x 512 pixels."""
    return np.repeat(draw_image(40, 512)[128:384, 128:384, :1], 3, axis=2)


class Remembered(nn.Module):
    """A network that is run once for an image, for the flips need it again and again; weights are those of `SEEDS`."""

    results: ClassVar[dict[tuple[str, bytes], torch.Tensor]] = {}

    def __init__(self, network: nn.Module, name: str):
        super().__init__()
        self.network, self.name = network, f"{name} {network}"

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat([self._output(image[None]) for image in images])

    def _output(self, image: torch.Tensor) -> torch.Tensor:
        key = self.name, hashlib.sha256(image.contiguous().numpy()).digest()
        if key not in self.results:
            self.results[key] = self.network(image)
        return self.results[key]


@cache
def weights(name: str) -> dict[str, torch.Tensor]:
    network = getattr(
        student_teacher.StudentTeacher(student_teacher.build_pdn("small", 384), "small", IMAGE_SIZE), name
    )
    shapes = [(key, tuple(value.shape)) for key, value in network.state_dict().items()]
    return {key: torch.from_numpy(value) for key, value in draw_weights(shapes, SEEDS[name]).items()}


def drawn(modules: SimpleNamespace = OURS) -> student_teacher.StudentTeacher:
    """Student, teacher and autoencoder of the drawn weights."""
    network = modules.student_teacher.StudentTeacher(
        modules.student_teacher.build_pdn("small", 384), "small", IMAGE_SIZE
    ).eval()
    for name in SEEDS:
        getattr(network, name).load_state_dict(weights(name))
    for name in ("teacher", "student"):
        layers = getattr(network, name)
        setattr(network, name, nn.Sequential(Remembered(layers[:-1], name), layers[-1]))
    return network


def normalised(modules: SimpleNamespace = OURS) -> student_teacher.StudentTeacher:
    """The same with a teacher that is normalised on the first good image."""
    network = drawn(modules)
    output = network.teacher(network.normalise(batch(good_image())))
    moments = output.mean(dim=(0, 2, 3)), output.std(dim=(0, 2, 3), correction=0)
    modules.teacher.fold_normalisation(network.teacher, *moments)
    return network


@torch.inference_mode()
def losses(modules: SimpleNamespace) -> dict[str, float]:
    """Terms and total of the first step, by the names of the public code."""
    image, seen, terms = batch(good_image()), batch(good_image()[:, ::-1]), []
    loss_terms = modules.student_teacher.loss_terms
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            modules.student_teacher, "loss_terms", lambda *given: terms.append(loss_terms(*given)) or terms[0]
        )
        total = modules.student_teacher.total_loss(normalised(modules), image, seen, batch(other_image()), 0.999)
    found = dict(zip(("loss_hard", "loss_penalty", "loss_ae", "loss_stae"), map(float, terms[0]), strict=True))
    return {**found, "loss_total": float(total)}


def unscaled_maps(network: student_teacher.StudentTeacher, number: int) -> torch.Tensor:
    return network.maps(network.normalise(batch(good_image(number))))


@torch.inference_mode()
def maps(modules: SimpleNamespace) -> dict[str, np.ndarray]:
    """Quantiles over two good images before resizing, and the maps of a third image."""
    network, seen = normalised(modules), []
    good = np.concatenate([unscaled_maps(network, number)[0].flatten(1).numpy() for number in (0, 1)], axis=1)
    quantiles = modules.student_teacher.map_quantiles(good)
    network.quantiles.copy_(quantiles)
    unscaled = network.maps
    network.maps = lambda image: seen.append(unscaled(image)) or seen[0]
    combined = network(torch.from_numpy(draw_image(30, 256))[None])[0]
    local, overall = (0.1 * (values - a) / (b - a) for values, (a, b) in zip(seen[0][0], quantiles, strict=True))
    return {
        "quantiles": quantiles.flatten().numpy(),
        "combined": combined[4:60:4, 4:60:4].numpy(),
        "local": local[::4, ::4].numpy(),
        "global": overall[::4, ::4].numpy(),
    }


def expected_maps() -> dict[str, np.ndarray]:
    combined, local, overall = (np.reshape(x, (14, 14)) for x in BEFORE["combined, local and global map"])
    return {"quantiles": BEFORE["quantiles"], "combined": combined, "local": local, "global": overall}


def same(found, expected) -> bool:
    return all(np.allclose(found[name], expected[name], rtol=1e-4, atol=2e-5) for name in found)


def test_losses_are_those_of_the_public_code():
    first = TRAINING["steps"][0]
    found = losses(OURS)
    assert found == pytest.approx({name: first[name] for name in found}, rel=1e-4)


def test_maps_are_those_of_the_public_code():
    assert same(maps(OURS), expected_maps())


@torch.inference_mode()
def test_networks_are_those_of_the_public_code():
    network, first = normalised(), TRAINING["steps"][0]
    seen = network.normalise(batch(good_image()[:, ::-1]))
    student, autoencoder = network.student(seen)[0, 384::64, ::8, ::8], network.autoencoder(seen)[0, ::64, ::8, ::8]
    np.testing.assert_allclose(student.flatten(), first["student"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(autoencoder.flatten(), first["autoencoder"], rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_hard_features_are_those_above_the_public_threshold():
    network, first = normalised(), TRAINING["steps"][0]
    image = network.normalise(batch(good_image()))
    squares = (network.teacher(image) - network.student(image)[:, :384]).square().flatten()
    hard = squares[squares >= first["d_hard"] * (1 - 1e-6)]
    assert hard.mean().item() == pytest.approx(first["loss_hard"], rel=1e-4)
    # Linear interpolation puts the threshold between two values, so as many reach it as `topk` takes.
    count = squares.numel() - int(np.ceil(0.999 * (squares.numel() - 1)))
    assert len(hard) == count
    assert np.quantile(squares.numpy(), 0.999) == pytest.approx(first["d_hard"], rel=1e-4)


def moments_of(images, monkeypatch) -> list[np.ndarray]:
    """Mean and deviation of every channel as `EfficientAD.learn` takes them."""
    seen = []
    monkeypatch.setattr(efficient_ad, "fold_normalisation", lambda teacher, *moments: seen.extend(moments))
    model = EfficientAD.from_settings({"model_size": "small"}, pretrained=False)
    model.network = drawn()
    model._normalise_teacher(images, np.arange(len(images)), lambda done, total: None)
    return [moment.numpy()[::16] for moment in seen]


def test_channels_are_normalised_as_in_the_public_code(monkeypatch):
    images = [good_image(0), good_image(1)]
    mean, std = moments_of(images, monkeypatch)
    np.testing.assert_allclose(mean, BEFORE["mean and deviation"][0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(std, BEFORE["mean and deviation"][1], rtol=1e-4)
    for others in (images[:1], [image[..., ::-1].copy() for image in images]):
        assert not np.allclose(moments_of(others, monkeypatch)[0], mean, rtol=1e-2, atol=1e-3)


# Where the public code and the paper differ, ours is the paper's.


@torch.inference_mode()
def test_quantiles_are_taken_after_resizing_as_the_paper_says():
    model = EfficientAD.from_settings({"model_size": "small"}, pretrained=False)
    model.network = normalised()
    model._normalise_maps([good_image(0), good_image(1)], np.arange(2), lambda done, total: None)
    found = model.network.quantiles.flatten().numpy()
    good = torch.cat([unscaled_maps(model.network, number) for number in (0, 1)])
    after = F.interpolate(good, IMAGE_SIZE, mode="bilinear").transpose(0, 1).flatten(1).numpy()
    np.testing.assert_allclose(found, np.quantile(after, (0.9, 0.995), axis=1).T.flatten(), rtol=1e-5)
    # The public code takes them of the 56 x 56 positions; interpolation cuts the peaks off, so ours are lower.
    ratio = found / BEFORE["quantiles"]
    assert (ratio < 0.999).all() and (ratio > 0.8).all()


@torch.inference_mode()
def test_border_repeats_its_neighbours_where_the_public_code_has_zeros():
    network = normalised()
    network.quantiles.copy_(torch.tensor(BEFORE["quantiles"]).view(2, 2))
    combined = network(torch.from_numpy(draw_image(30, 256))[None])
    assert torch.equal(combined, F.pad(combined[:, 4:-4, 4:-4], (4, 4, 4, 4), mode="replicate"))
    # A zero is the 0.9 quantile of good images: more than most of what surrounds it.
    assert combined.median() < 0 < combined.max() and not (combined == 0).any()


# Traps: one thing in ours is flipped in its source, and the comparison must fail.

CHAIN = ("student_teacher", "teacher")


def flipped(monkeypatch, name: str, old: str, new: str) -> SimpleNamespace:
    """The modules again, with one place of one of them changed."""
    modules = SimpleNamespace()
    for link in CHAIN:
        original = getattr(OURS, link)
        source = inspect.getsource(original)
        if link == name:
            assert source.count(old) == 1, f"{source.count(old)} places of {name} read {old!r}"
            source = source.replace(old, new)
        module = ModuleType(original.__name__)
        module.__file__ = original.__file__
        monkeypatch.setitem(sys.modules, original.__name__, module)
        exec(compile(source, original.__file__, "exec"), module.__dict__)
        setattr(modules, link, module)
    return modules


LOSS_FLIPS = {
    "no penalty": ("student_teacher", "terms.hard + terms.penalty", "terms.hard"),
    "the penalty's sum": ("student_teacher", "on_other.float().square().mean()", "on_other.float().square().sum()"),
    "the penalty on the good image": ("student_teacher", "on_other, local = F", "local, on_other = F"),
    "the other half of the channels": ("student_teacher", "ahead, behind = slice", "behind, ahead = slice"),
    "hard features from 0.99 on": ("student_teacher", "(target, local, hard)", "(target, local, 0.99)"),
    "all features": ("student_teacher", "hard_feature_loss(target, local, hard)", "F.mse_loss(target, local)"),
    "twice as many hard features": ("student_teacher", "topk(count)", "topk(2 * count)"),
    "the hard features' sum": ("student_teacher", "topk(count).values.mean()", "topk(count).values.sum()"),
    "the plain image for the autoencoder": (
        "student_teacher",
        "r(inputs[2 * count :])",
        "r(inputs[count : 2 * count])",
    ),
    "the plain image's target": ("student_teacher", "(reconstruction, augmented_target)", "(reconstruction, target)"),
    "the teacher instead of the autoencoder": ("student_teacher", "(imitated, reconstruction)", "(imitated, target)"),
    "BGR": ("student_teacher", "(image - self.pixel_mean)", "(image.flip(1) - self.pixel_mean)"),
    "other deviations of pixels": ("student_teacher", "(0.229, 0.224, 0.225)", "(0.5, 0.5, 0.5)"),
    "the mean after the division": ("teacher", "sub_(mean).div_(std)", "div_(std).sub_(mean)"),
    "align_corners": ("student_teacher", "align_corners=False", "align_corners=True"),
    "a decoder that begins at 4 x 4": ("student_teacher", "((64, 1), (32, 0)", "((64, 0), (32, 0)"),
    "padding": ("student_teacher", '"""Build PDN-S, table 6."""\n    pad = int(padding)', "pad = 1"),
    "the largest of four": (
        "student_teacher",
        "AvgPool2d(2, padding=pad),\n        nn.Conv2d(256, 256, 3",
        "MaxPool2d(2), nn.Conv2d(256, 256, 3",
    ),
}
MAP_FLIPS = {
    "q_a at 0.95": ("student_teacher", "(0.9, 0.995)", "(0.95, 0.995)"),
    "q_b at 0.99": ("student_teacher", "(0.9, 0.995)", "(0.9, 0.99)"),
    "the sum over channels": (
        "student_teacher",
        "[:, :CHANNELS]).square().mean",
        "[:, :CHANNELS]).square().sum",
    ),
    "the other half of the channels": ("student_teacher", "student[:, :CHANNELS]", "student[:, CHANNELS:]"),
    "the same half for both maps": ("student_teacher", "student[:, CHANNELS:]", "student[:, :CHANNELS]"),
    "not squared": ("student_teacher", "[:, CHANNELS:]).square()", "[:, CHANNELS:]).abs()"),
    "1 instead of 0.1": ("student_teacher", "(0.1 * (maps - start)", "(1.0 * (maps - start)"),
    "the sum of both maps": ("student_teacher", "(stop - start)).mean(", "(stop - start)).sum("),
    "the larger of both maps": ("student_teacher", "(stop - start)).mean(", "(stop - start)).amax("),
    "the maps in the other order": ("student_teacher", "[local, overall], dim=1", "[overall, local], dim=1"),
    "BGR": ("student_teacher", "(image - self.pixel_mean)", "(image.flip(1) - self.pixel_mean)"),
    "align_corners": ("student_teacher", "align_corners=False", "align_corners=True"),
    "padding": ("student_teacher", '"""Build PDN-S, table 6."""\n    pad = int(padding)', "pad = 1"),
}


@pytest.mark.slow
@pytest.mark.parametrize("flip", LOSS_FLIPS)
def test_a_flipped_loss_is_another(flip, monkeypatch):
    modules = flipped(monkeypatch, *LOSS_FLIPS[flip])
    first = TRAINING["steps"][0]
    try:
        found = losses(modules)
    except (RuntimeError, UserWarning) as error:
        assert "size" in str(error)  # grids that do not fit onto each other
        return
    assert not np.allclose([found[name] for name in found], [first[name] for name in found], rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("flip", MAP_FLIPS)
def test_a_flipped_map_is_another(flip, monkeypatch):
    modules = flipped(monkeypatch, *MAP_FLIPS[flip])
    try:
        found = maps(modules)
    except (RuntimeError, UserWarning) as error:
        assert "size" in str(error)
        return
    assert not same(found, expected_maps())


def test_a_flip_of_nothing_changes_nothing(monkeypatch):
    modules = flipped(monkeypatch, "student_teacher", "align_corners=False", "align_corners=False")
    assert modules.student_teacher is not student_teacher
    assert same(maps(modules), expected_maps())


# The whole training


@pytest.mark.slow
def test_five_steps_of_training_and_their_maps_are_those_of_the_public_code(monkeypatch):
    """`learn` as it stands, of one image, with the chance of both programs taken out; see `make.py`."""
    steps, rates = TRAINING["steps"], []
    model = EfficientAD.from_settings(
        {"model_size": "small", "steps": len(steps), "learning_rate": 1e-4, "validation_share": 0.5}, pretrained=False
    )
    for name in SEEDS:
        getattr(model.network, name).load_state_dict(weights(name))
    for layer in model.network.autoencoder.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    seen = []
    total, adam_step = efficient_ad.total_loss, torch.optim.Adam.step
    monkeypatch.setattr(efficient_ad, "total_loss", lambda *given: seen.append(total(*given)) or seen[-1])
    monkeypatch.setattr(efficient_ad, "augment", lambda image, rng: image.flip(3))
    monkeypatch.setattr(efficient_ad, "draw_other", lambda images, rng, size: other_image())

    def step(optimizer):
        rates.append(tuple(optimizer.param_groups[0][name] for name in ("lr", "weight_decay")))
        return adam_step(optimizer)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    held_out = np.random.default_rng(model.config.seed).permutation(2)[0]
    assert good_image(0)[100, 100].tolist() == steps[0]["pixel"]  # the one that the public code learns from
    model.learn(
        [good_image(number) for number in ((1, 0) if held_out == 0 else (0, 1))], Course(device=torch.device("cpu"))
    )
    assert [loss.item() for loss in seen] == pytest.approx([step["loss_total"] for step in steps], rel=1e-3)
    assert rates == [(pytest.approx(step["learning_rate"]), step["weight_decay"]) for step in steps]

    with torch.inference_mode():
        good = unscaled_maps(model.network, 1)[0].flatten(1).numpy()
        quantiles = student_teacher.map_quantiles(good)
        np.testing.assert_allclose(quantiles.flatten(), TRAINING["quantiles"], rtol=1e-3)
        model.network.quantiles.copy_(quantiles)
        for seed, expected, score in zip((31, 30), TRAINING["maps"], TRAINING["scores"], strict=True):
            combined = model.network(torch.from_numpy(draw_image(seed, 256))[None])
            resized = F.interpolate(combined[None], IMAGE_SIZE, mode="bilinear")[0, 0]
            inner = np.reshape(expected, (16, 16))[2:-2, 2:-2]
            np.testing.assert_allclose(resized[4::16, 4::16][2:-2, 2:-2], inner, atol=2e-3)
            assert resized.max().item() == pytest.approx(score, abs=2e-3)
            assert score <= combined.max().item()  # ours, of the positions, is never lower
