"""SimpleNet's preset `paper` computes what the authors' code does; the numbers are from `simplenet_authors`."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")

import simplenet_authors as authors  # noqa: E402
from torch import nn  # noqa: E402

from edgead.workstation.backbones.pretrained import Backbone  # noqa: E402
from edgead.workstation.methods.simplenet import training as simplenet_training  # noqa: E402
from edgead.workstation.methods.simplenet.detector import SimpleNet, SimpleNetConfig  # noqa: E402
from edgead.workstation.methods.simplenet.training import Contest, SimpleNetwork, UnfoldedFeatures  # noqa: E402

PAPER = SimpleNetConfig(**SimpleNet.presets["paper"])
TOLERANCE = {"rtol": 1e-4, "atol": 2e-5}
TRAINED = {"rtol": 1e-3, "atol": 2e-3}  # Adam divides by the root of gradients that rounding reaches


@pytest.fixture(scope="module")
def expected():
    with np.load(authors.FIXTURE) as file:
        return dict(file)


def build() -> SimpleNetwork:
    """Everything behind the backbone, with the fixture's weights."""
    backbone = Backbone([("none", nn.Identity())], ["none"], [0.0] * 3, [1.0] * 3)
    network = SimpleNetwork(UnfoldedFeatures(backbone, PAPER.embedding), PAPER.hidden).eval()
    fill(network)
    return network


def fill(network: SimpleNetwork) -> None:
    authors.fill(network.adaptor.state_dict(), authors.SEED + 1)
    authors.fill(network.discriminator.state_dict(), authors.SEED + 2)


def judge(network: SimpleNetwork, features: torch.Tensor, image_size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Patch scores, image scores and maps, by the head of the preset."""
    with torch.no_grad():
        scores = network.score(features.flatten(0, 2)).reshape(features.shape[:3]).numpy()
    head = SimpleNet.head.fget(SimpleNamespace(config=PAPER))
    judged = [head.reference({"patch_scores": x.astype(np.float64)}, {}, image_size) for x in scores]
    return {
        "scores": scores,
        "image_scores": np.array([score for score, _ in judged]),
        "maps": np.array([smoothed[::4, ::4] for _, smoothed in judged]),
    }


def compute(monkeypatch) -> dict[str, np.ndarray]:
    """What the fixture has of the four images whose levels are given, before and after a training of three steps."""
    network = build()
    with torch.no_grad():
        features = network.features.align(authors.make_levels()).permute(0, 2, 3, 1)
    found = {"features": features.flatten(1, 2)[:2, ::16].numpy(), **judge(network, features, authors.LEVELS_SHAPE)}
    noise = authors.Noise()
    monkeypatch.setattr(torch, "randn_like", lambda like: noise(0.0, 1.0, like.shape))
    contest = Contest(
        network.adaptor.train(), network.discriminator.train(), PAPER.noise_std, PAPER.noise_spread, PAPER.margin
    )
    optimizers = contest.optimizers(PAPER.adaptor_lr, PAPER.discriminator_lr, PAPER.weight_decay)
    found["losses"] = np.array(
        [contest.update(features[batch].flatten(0, 2), optimizers).item() for batch in authors.BATCHES]
    )
    trained = judge(network.eval(), features, authors.LEVELS_SHAPE)
    return found | {f"trained_{key}": value for key, value in trained.items()}


def differing(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> set[str]:
    """What does not equal the authors' numbers."""

    def equal(key: str) -> bool:
        tolerance = TRAINED if key.startswith("trained") else TOLERANCE
        return np.allclose(found[key], expected[key], **tolerance)

    return {key for key in found if not equal(key)}


def test_the_papers_preset_equals_the_authors_code(expected, monkeypatch):
    found = compute(monkeypatch)
    assert found.keys() == {key for key in expected if not key.startswith("whole")}
    assert differing(found, expected) == set()


def mean_of_neighbours(layer, size, padding):
    pooled = nn.functional.avg_pool2d(layer, size, stride=1, padding=padding)
    return pooled.flatten(2).repeat_interleave(size * size, dim=1)


def place_by_place(layer, size, padding, unfold=nn.functional.unfold):
    count, channels = layer.shape[:2]
    return unfold(layer, size, padding=padding).reshape(count, channels, size * size, -1).transpose(1, 2).flatten(1, 2)


def by_corners(x, size, mode, align_corners, interpolate=nn.functional.interpolate):
    return interpolate(x, size=size, mode=mode, align_corners=True)


def loss_of_noise_before_the_adaptor(self, features):
    noisy = simplenet_training.add_noise(features, self.noise_std)
    scores = self.discriminator(self.adaptor(torch.cat([features, noisy])))
    return simplenet_training.truncated_l1(scores[: len(features)], scores[len(features) :], self.margin)


def loss_of_two_batches(self, features):
    good = self.adaptor(features)
    anomalous = simplenet_training.add_noise(good, self.noise_std)
    return simplenet_training.truncated_l1(self.discriminator(good), self.discriminator(anomalous), self.margin)


def loss_by_running_statistics(self, features, loss=Contest.loss):
    self.discriminator.eval()
    return loss(self, features)


def score_by_the_batch(self, features):
    self.discriminator.train()
    return -self.discriminator(self.adaptor(features))


def changed(**settings):
    return SimpleNetConfig(**{**SimpleNet.presets["paper"], **settings})


TRAINS = {"losses", "trained_scores", "trained_image_scores", "trained_maps"}
TRAPS = {
    "the mean of the neighbourhood": ((simplenet_training.F, "unfold", mean_of_neighbours), {"features", "scores"}),
    "neighbourhoods laid out place by place": (
        (simplenet_training.F, "unfold", place_by_place),
        {"features", "scores"},
    ),
    "upsampling by corners": ((simplenet_training.F, "interpolate", by_corners), {"features", "scores"}),
    "the sign of the score": (
        (SimpleNetwork, "score", lambda self, x: self.discriminator(self.adaptor(x))),
        {"scores", "image_scores", "maps"},
    ),
    "batch norm by the batch when judging": ((SimpleNetwork, "score", score_by_the_batch), {"scores"}),
    "batch norm by running statistics when learning": ((Contest, "loss", loss_by_running_statistics), TRAINS),
    "noise before the adaptor": ((Contest, "loss", loss_of_noise_before_the_adaptor), TRAINS),
    "two batches": ((Contest, "loss", loss_of_two_batches), TRAINS),
    "the threshold of the loss": (("PAPER", changed(margin=0.8)), TRAINS),
    "ten times the noise": (("PAPER", changed(noise_std=0.15)), TRAINS),
    "rates exchanged": (("PAPER", changed(adaptor_lr=2e-4, discriminator_lr=1e-4)), {"losses", "trained_scores"}),
    "less smoothing": (("PAPER", changed(sigma_px=2.0)), {"maps", "trained_maps"}),
    "the mean of ten patches": (("PAPER", changed(top_patches=10)), {"image_scores", "trained_image_scores"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("trap", TRAPS)
def test_what_would_differ_is_seen(trap, expected, monkeypatch):
    (*target, value), seen = TRAPS[trap]
    owner, name = target if len(target) == 2 else (sys.modules[__name__], *target)
    monkeypatch.setattr(owner, name, value)
    assert seen <= differing(compute(monkeypatch), expected)


@pytest.mark.slow
def test_the_whole_way_from_a_file_of_weights(expected, tmp_path):
    weights = tmp_path / "wide_resnet50_2.pt"
    torch.save(authors.make_backbone().state_dict(), weights)
    settings = {**SimpleNet.presets["paper"], "image_size": authors.WHOLE_SHAPE}
    method = SimpleNet.from_settings(settings, weights=weights)
    fill(method.network)
    with torch.no_grad():
        features = method.network.features(torch.from_numpy(authors.make_images()))
    for key, value in judge(method.network, features, authors.WHOLE_SHAPE).items():
        np.testing.assert_allclose(value, expected[f"whole_{key}"], rtol=1e-3, atol=1e-3, err_msg=key)
