"""DRAEM equals the authors' code on the same random weights, and no longer when one thing in it is turned.

Both compute in float64, so what is left is the order of sums: 1e-9. Their window of the SSIM is rounded to float32, as
our image score is: 1e-6 for what is made of these.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")

import torch.nn.functional as F  # noqa: E402
from authors import authors_numbers, load_weights, numbers  # noqa: E402
from draem_authors import SIZE, unit  # noqa: E402
from torch import nn  # noqa: E402

from edgead.heads.map import MapScorer  # noqa: E402
from edgead.workstation.methods.draem import networks as draem_losses  # noqa: E402
from edgead.workstation.methods.draem import perlin  # noqa: E402
from edgead.workstation.methods.draem.detector import Draem  # noqa: E402
from edgead.workstation.methods.draem.networks import DraemNetwork  # noqa: E402

THEIRS = authors_numbers("draem")
EXACT_FOCAL, EXACT_RECONSTRUCTION = draem_losses.focal_loss, draem_losses.reconstruction_loss
WIDTH = 1 / 32  # 4 and 2 channels


IMAGE, CORRUPTED = unit("image"), unit("corrupted")
MASK = torch.from_numpy(numbers("mask", (2, 1, *SIZE)) > 1)[:, 0]


def authors_name(name: str) -> str:
    """reconstructive.encoder.1.1.0.weight -> reconstructive.encoder.block2.0.weight, and so on."""
    part, kind, *rest = name.split(".")
    segment = "" if part == "reconstructive" else "_segment"
    if kind == "last":
        return f"{part}.decoder{segment}.fin_out.0.{rest[0]}"
    number = int(rest[0])
    if kind == "encoder":
        return f"{part}.encoder{segment}.block{number + 1}.{'.'.join(rest[-2:])}"
    if kind == "decoder":  # of the first network: what enlarges, and what follows
        return f"{part}.decoder.{('up', 'db')[int(rest[1])]}{number + 1}.{'.'.join(rest[2:])}"
    theirs = {"ups": "up", "joins": "db"}[kind]
    return f"{part}.decoder_segment.{theirs}{number or '_b'}.{'.'.join(rest[1:])}"


@pytest.fixture
def network() -> DraemNetwork:
    return authors_network()


def authors_network() -> DraemNetwork:
    network = DraemNetwork(WIDTH)
    load_weights(network, authors_name)
    return network


def seen(x: torch.Tensor) -> np.ndarray:
    """The file has every third pixel."""
    return x[..., ::3, ::3].detach().numpy()


def forward(network: DraemNetwork) -> dict[str, np.ndarray]:
    """Both modes of the normalisations; the second changes their statistics."""
    results = {}
    for mode in ("eval", "train"):
        network.train(mode == "train")
        with torch.inference_mode():
            reconstruction, logits = network.reconstruct_and_segment(CORRUPTED)
            if mode == "eval":
                results["scores"] = scores(network)
        results[f"{mode}_reconstruction"], results[f"{mode}_logits"] = seen(reconstruction), seen(logits)
    state = {authors_name(name): x.numpy() for name, x in network.state_dict().items() if "running" in name}
    results["statistics"] = np.concatenate([state[name] for name in sorted(state)])
    scorer = MapScorer(Draem.from_settings({"width": WIDTH}).head, SIZE, SIZE)
    full = np.ascontiguousarray(results["scores"], np.float32)
    results["image_scores"] = np.array([scorer.image_score(x) for x in full])
    results["scores"] = results["scores"][..., ::3, ::3]
    return results


def scores(network: DraemNetwork) -> np.ndarray:
    """`DraemNetwork.forward` on an image that is no integer."""

    class Image:
        def float(self):
            return 255 * CORRUPTED.permute(0, 2, 3, 1)

    return network(Image()).numpy()


def losses(network: DraemNetwork) -> dict[str, np.ndarray]:
    network.train()
    reconstruction, logits = network.reconstruct_and_segment(CORRUPTED)
    focal = draem_losses.focal_loss(logits, MASK)
    loss = draem_losses.reconstruction_loss(IMAGE, reconstruction) + focal
    loss.backward()
    norms = {authors_name(name): float(p.grad.norm()) for name, p in network.named_parameters()}
    return {
        "ssim_map": seen(draem_losses.structural_similarity(CORRUPTED, IMAGE)),
        "exact_focal_loss": focal.detach().numpy(),
        "exact_loss": loss.detach().numpy(),
        "gradient_norms": np.array([norms[name] for name in sorted(norms)]),
    }


ROUNDED = {"image_scores", "ssim_map", "exact_loss", "gradient_norms"}


def differing(found: dict[str, np.ndarray], tolerance: float = 1e-9) -> set[str]:
    tolerances = {name: max(1e-6 if name in ROUNDED else 1e-9, tolerance) for name in found}
    # Before a normalisation, the gradient of a bias is 0 but for rounding; a value of the SSIM may be near 0.
    return {
        name
        for name, value in found.items()
        if not np.allclose(value, THEIRS[name], tolerances[name], atol=tolerances[name])
    }


def test_networks_equal_the_authors_code(network):
    found = forward(network)
    assert len(found) == 7 and not differing(found)


def test_losses_and_gradients_equal_the_authors_code(network):
    found = losses(network)
    assert not differing(found)
    with torch.inference_mode():
        ssim_loss = (1 - draem_losses.structural_similarity(CORRUPTED, IMAGE)).mean()
        both = draem_losses.reconstruction_loss(IMAGE, CORRUPTED)
    np.testing.assert_allclose(ssim_loss, THEIRS["ssim_loss"], rtol=1e-6)
    np.testing.assert_allclose(both, THEIRS["ssim_loss"] + THEIRS["l2_loss"], rtol=1e-6)


def test_what_the_authors_code_does_to_the_losses_beside_the_paper():
    # It keeps probabilities of the focal loss from 0 and 1 by 1e-5 ...
    assert 1e-6 < abs(float(THEIRS["focal_loss"] / THEIRS["exact_focal_loss"]) - 1) < 2e-4
    # ... and doubles the range of values of the SSIM where a repaired image has a pixel below -0.5.
    dark = CORRUPTED - 1.5 * (CORRUPTED > 0.9)
    assert dark.min() < -0.5
    ssim_loss = float((1 - draem_losses.structural_similarity(dark, IMAGE)).mean())
    assert abs(ssim_loss / float(THEIRS["dark_ssim_loss"]) - 1) > 0.01


def modules(network, kind):
    return [module for module in network.modules() if isinstance(module, kind)]


def align_no_corners(network, monkeypatch):
    for module in modules(network, nn.Upsample):
        module.align_corners = False


def enlarge_by_repetition(network, monkeypatch):
    for module in modules(network, nn.Upsample):
        module.mode, module.align_corners = "nearest", None


def pool_by_mean(network, monkeypatch):
    monkeypatch.setattr(nn.MaxPool2d, "forward", lambda self, x: F.avg_pool2d(x, 2))


def leak(network, monkeypatch):
    monkeypatch.setattr(nn.ReLU, "forward", lambda self, x: F.leaky_relu(x, 0.01))


def pair_the_other_way_round(network, monkeypatch):
    joined = network.discriminative.forward
    monkeypatch.setattr(network.discriminative, "forward", lambda pair: joined(pair.roll(3, dims=1)))


def skips_first(network, monkeypatch):
    for join, up in zip(network.discriminative.joins, network.discriminative.ups, strict=True):
        outputs = up[1].out_channels
        weight = join[0].weight.data
        join[0].weight.data = torch.cat([weight[:, outputs:], weight[:, :outputs]], dim=1)


def other_epsilon(network, monkeypatch):
    for module in modules(network, nn.BatchNorm2d):
        module.eps = 1e-3


@pytest.mark.parametrize(
    "turn",
    [align_no_corners, enlarge_by_repetition, pool_by_mean, leak, pair_the_other_way_round, skips_first, other_epsilon],
)
def test_a_turned_network_differs(network, monkeypatch, turn):
    turn(network, monkeypatch)
    names = {"eval_logits", "train_logits", "scores", "statistics"}
    assert differing(forward(network), tolerance=1e-5) >= names


def test_other_momentum_differs(network):
    for module in modules(network, nn.BatchNorm2d):
        module.momentum = 0.01
    assert differing(forward(network), tolerance=1e-5) == {"statistics"}


def test_normalisations_of_the_other_mode_differ(network, monkeypatch):
    train = DraemNetwork.train
    monkeypatch.setattr(DraemNetwork, "train", lambda self, mode=True: train(self, not mode))
    names = {f"{mode}_{what}" for mode in ("eval", "train") for what in ("reconstruction", "logits")}
    assert differing(forward(network), tolerance=1e-5) >= names


def test_the_normal_channel_is_no_score(network):
    last = network.discriminative.last
    last.weight.data, last.bias.data = last.weight.data.flip(0), last.bias.data.flip(0)
    assert differing(forward(network), tolerance=1e-5) >= {"scores", "image_scores"}


@pytest.mark.parametrize("window", [1, 11, 19])
def test_another_window_has_other_image_scores(network, monkeypatch, window):
    settings = Draem.from_settings
    monkeypatch.setattr(Draem, "from_settings", lambda values: settings({**values, "window": window}))
    assert differing(forward(network), tolerance=1e-5) == {"image_scores"}


@pytest.mark.parametrize(
    ("name", "value", "differs"),
    [
        ("SSIM_WINDOW", 7, "ssim_map"),
        ("SSIM_SIGMA", 2.0, "ssim_map"),
        ("_C1", 0.02**2, "ssim_map"),
        ("_C2", 0.06**2, "ssim_map"),
        ("focal_loss", lambda logits, mask: F.cross_entropy(logits, mask.long()), "exact_focal_loss"),
        ("focal_loss", lambda logits, mask: EXACT_FOCAL(logits, ~mask), "exact_focal_loss"),
        ("focal_loss", lambda logits, mask: EXACT_FOCAL(logits, mask) / 4, "exact_focal_loss"),
        ("reconstruction_loss", lambda a, b: EXACT_RECONSTRUCTION(a, b) + F.mse_loss(a, b), "exact_loss"),
        ("reconstruction_loss", lambda a, b: EXACT_RECONSTRUCTION(a, b.detach()), "gradient_norms"),
    ],
    ids=["window", "sigma", "C1", "C2", "gamma 0", "classes", "alpha", "weight of l2", "no gradient"],
)
def test_a_turned_loss_differs(network, monkeypatch, name, value, differs):
    monkeypatch.setattr(draem_losses, name, value)
    assert differing(losses(network), tolerance=1e-5) >= {differs, "gradient_norms"}


def test_the_map_of_names_is_whole(network):
    names = [authors_name(name) for name in network.state_dict() if not name.endswith("num_batches_tracked")]
    assert len(set(names)) == len(names) == 200 + 2 * len(modules(network, nn.BatchNorm2d))
    assert all(re.fullmatch(r"(re|di)\w+\.(en|de)coder(_segment)?\.\w+\.\d\.\w+", name) for name in names)


class Angles:
    """What the authors' code draws after `numpy.random.seed(0)`."""

    def uniform(self, low: float, high: float, shape: tuple[int, int]) -> np.ndarray:
        return low + (high - low) * np.random.RandomState(0).rand(*shape)


NOISES = (("noise0", (16, 24), (2, 4)), ("noise1", (32, 16), (1, 8)))


@pytest.mark.parametrize(("name", "shape", "cells"), NOISES)
def test_perlin_noise_equals_the_authors_code(name, shape, cells):
    np.testing.assert_allclose(perlin.perlin_noise(shape, cells, Angles()), THEIRS[name], atol=1e-6)  # float32


@pytest.mark.parametrize(("name", "shape", "cells"), NOISES)
@pytest.mark.parametrize("fade", [lambda t: t, lambda t: t * t * (3 - 2 * t)], ids=["linear", "smooth"])
def test_noise_of_another_fade_differs(monkeypatch, name, shape, cells, fade):
    monkeypatch.setattr(perlin, "_fade", fade)
    assert np.abs(perlin.perlin_noise(shape, cells, Angles()) - THEIRS[name]).max() > 1e-2
