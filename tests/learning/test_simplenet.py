"""SimpleNet, pinned to the paper's loss and parts; training that learns, is seeded and resumes; the exported graph."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")
onnx = pytest.importorskip("onnx", reason="exporting needs the workstation's packages")

from edgead.export.verify import compare_with_torch, replay_golden  # noqa: E402
from torch import nn  # noqa: E402

from edgead.adapt.training.from_folder import train_from_folder  # noqa: E402
from edgead.adapt.training.good_images import GoodImages  # noqa: E402
from edgead.artifact.folder import Artifact  # noqa: E402
from edgead.dataset.folders import find_test_images  # noqa: E402
from edgead.workstation.methods.simplenet.detector import SimpleNet  # noqa: E402
from edgead.workstation.methods.simplenet.training import (  # noqa: E402
    Batches,
    BestSoFar,
    DrawnDefects,
    add_noise,
    hold_out,
    running_mean,
    truncated_l1,
)
from edgead.workstation.trainer.checkpoint import Checkpoint  # noqa: E402

TINY = {
    "backbone": "efficientnet_lite0",
    "image_size": (64, 64),
    "hidden": 32,
    "batch_patches": 64,
    "steps": 30,
    "noise_std": 0.5,
    "noise_spread": 1.0,
    "averaging": 0.0,
    "adaptor_lr": 1e-2,
    "discriminator_lr": 1e-2,
}


def texture(seed: int) -> np.ndarray:
    """Dots on grey: every patch of every image looks much the same."""
    image = np.full((64, 64, 3), 120, np.uint8)
    image[::4, ::4] = 160
    return image + np.random.default_rng(seed).integers(0, 6, (64, 64, 1), np.uint8)


IMAGES = [texture(seed) for seed in range(12)]
MANY = [texture(seed) for seed in range(40)]


@pytest.fixture(scope="module")
def trained() -> SimpleNet:
    return SimpleNet.from_settings(TINY).fit(IMAGES)


@pytest.fixture(scope="module")
def model(line_data, tmp_path_factory):
    """An artifact on the built-in line."""
    path = tmp_path_factory.mktemp("simplenet") / "model"
    settings = {**TINY, "image_size": (96, 96)}
    train_from_folder(GoodImages(line_data, false_reject_rate=0.05), path, settings, detector="simplenet")
    return path


def test_truncated_l1_by_hand():
    # Section 3.5 with th+ = 0.5 and th- = -0.5: max(0, 0.5 - D(q)) + max(0, 0.5 + D(q-)), the mean over patches.
    good = torch.tensor([0.5, 2.0, 0.25, -1.0])  # 0, 0 (truncated), 0.25, 1.5
    anomalous = torch.tensor([-0.5, -3.0, 0.0, 0.7])  # 0, 0 (truncated), 0.5, 1.2
    assert truncated_l1(good, anomalous, 0.5).item() == pytest.approx(1.75 / 4 + 1.7 / 4)
    assert truncated_l1(torch.tensor([0.5, 9.0]), torch.tensor([-0.5, -9.0]), 0.5).item() == 0


def test_noise_is_gaussian_of_the_asked_deviation():
    torch.manual_seed(0)
    noise = (add_noise(torch.full((2000, 50), 7.0), 0.015) - 7).double()
    assert noise.mean().item() == pytest.approx(0, abs=2e-4)
    assert noise.std().item() == pytest.approx(0.015, rel=0.01)
    # The kurtosis of a Gaussian is 3; one value for a whole patch would correlate its channels.
    assert ((noise / noise.std()) ** 4).mean().item() == pytest.approx(3, abs=0.1)
    assert torch.corrcoef(noise.T).fill_diagonal_(0).abs().max() < 0.15


def test_spread_noise_is_loud_and_quiet_evenly_in_its_logarithm():
    torch.manual_seed(0)
    loudness = add_noise(torch.zeros(4000, 400), 0.1, 20.0).std(dim=1).log().double()
    assert loudness.exp().min() == pytest.approx(0.005, rel=0.2) and loudness.exp().max() == pytest.approx(0.1, rel=0.2)
    shares = torch.histc(loudness, 4, math.log(0.005), math.log(0.1)) / len(loudness)
    assert shares.tolist() == pytest.approx([0.25] * 4, abs=0.04)


def test_an_epoch_has_every_row_once():
    batches = Batches(rows=41, size=10, together=1, seed=3)
    assert batches.per_epoch == 4  # the last row alone would have no deviation
    epochs = [torch.cat([batches.of(4 * epoch + i) for i in range(4)]).tolist() for epoch in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(41)) and epochs[0] != epochs[1]
    assert [len(batches.of(i)) for i in range(4)] == [10, 10, 10, 11]


def test_whole_images_stay_together():
    batches = Batches(rows=15, size=6, together=3, seed=0)
    rows = [batches.of(i).tolist() for i in range(batches.per_epoch)]
    assert [len(batch) for batch in rows] == [6, 6, 3]
    assert all(batch[i + 1] == batch[i] + 1 for batch in rows for i in range(len(batch)) if i % 3 < 2)


def test_whole_groups_are_held_out_and_few_images_looked_at():
    groups = np.arange(300) // 3
    own, held = hold_out(groups, 0.2, 0)
    assert len(own) == 240 and len(held) == 24 and not set(groups[own]) & set(groups[held])
    assert len(hold_out([0, 0, 0], 0.1, 0)[1]) == 0 == len(hold_out(groups, 0.0, 0)[1])


def test_the_best_is_kept_and_patience_ends_the_training():
    candidate = nn.Linear(1, 1)
    best = BestSoFar(candidate, patience=2)
    for weight, auroc in ((1.0, 0.6), (2.0, 0.9), (3.0, 0.9)):
        candidate.weight.data.fill_(weight)
        best.offer(candidate, auroc)
    assert best.kept.weight.item() == 2.0 and not best.is_over
    best.offer(candidate, 0.8)
    assert best.is_over and best.kept.weight.item() == 2.0


def test_the_mean_of_the_weights_forgets_the_first():
    trained = nn.Linear(1, 1)
    mean, last = running_mean(trained, 0.99), running_mean(trained, 0.0)
    for step in range(200):
        trained.weight.data.fill_(float(step))
        mean.update_parameters(trained)
        last.update_parameters(trained)
    assert last.module.weight.item() == 199.0
    assert 100 < mean.module.weight.item() < 190


@pytest.mark.slow
def test_training_stops_when_drawn_defects_are_separated_no_better(monkeypatch):
    seen = iter([0.6, 0.8, 0.7, 0.75])  # a fifth look would raise StopIteration
    monkeypatch.setattr(DrawnDefects, "auroc", lambda self, score: next(seen))
    settings = {**TINY, "held_out": 0.2, "look_every": 3, "patience": 2}
    stopped = SimpleNet.from_settings(settings).fit(MANY).network.state_dict()
    until = SimpleNet.from_settings({**settings, "steps": 6, "patience": 9})
    seen = iter([0.6, 0.8])
    monkeypatch.setattr(DrawnDefects, "auroc", lambda self, score: next(seen))
    best = until.fit(MANY).network.state_dict()
    for name, value in best.items():
        assert torch.equal(value, stopped[name]), name


def test_drawn_defects_are_found_by_a_network_that_has_learnt(trained):
    network = trained.network
    drawn = DrawnDefects(network.features, IMAGES[:4], trained.head, 0)
    assert drawn.auroc(nn.Sequential(network.adaptor, network.discriminator)) > 0.8


def test_the_parts_are_the_papers(trained):
    adaptor, discriminator = trained.network.adaptor, trained.network.discriminator
    channels = trained.network.features.mean.numel()
    assert (adaptor.in_features, adaptor.out_features) == (channels, channels)
    first, norm, activation, last = discriminator
    assert isinstance(first, nn.Linear) and isinstance(norm, nn.BatchNorm1d)
    assert activation.negative_slope == 0.2
    assert last.out_features == 1 and last.bias is None
    assert not any(module.training for module in trained.network.modules())


def test_score_is_the_negated_discriminator_of_adapted_features(trained):
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8))
    network = trained.network
    norm = network.discriminator[1]
    weights = {name: value.double().numpy() for name, value in network.state_dict().items()}
    with torch.inference_mode():
        features, scores = network.features(image).double().numpy(), network(image)
    q = features @ weights["adaptor.weight"].T + weights["adaptor.bias"]
    hidden = q @ weights["discriminator.0.weight"].T + weights["discriminator.0.bias"]
    deviation = np.sqrt(weights["discriminator.1.running_var"] + norm.eps)
    hidden = (hidden - weights["discriminator.1.running_mean"]) / deviation
    hidden = hidden * weights["discriminator.1.weight"] + weights["discriminator.1.bias"]
    expected = -(np.where(hidden > 0, hidden, 0.2 * hidden) @ weights["discriminator.3.weight"].T)[..., 0]
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)


def test_training_lowers_the_loss_and_separates(trained):
    untrained = SimpleNet.from_settings(TINY)
    untrained.network.features.load_state_dict(trained.network.features.state_dict())
    with torch.inference_mode():
        features = trained.network.features(torch.from_numpy(np.stack(IMAGES))).flatten(0, 2)

        def loss(network):
            torch.manual_seed(1)
            good = network.adaptor(features)
            return truncated_l1(network.discriminator(good), network.discriminator(add_noise(good, 0.5)), 0.5).item()

        assert loss(trained.network) < 0.5 * loss(untrained.network)

        flawed = texture(99)
        flawed[24:40, 24:40] = 30
        good, bad = trained.network(torch.from_numpy(np.stack([texture(99), flawed]))).numpy()
    assert bad.max() > good.max() + 0.1
    rise, flaw = bad - good, np.zeros(good.shape, bool)
    flaw[2:6, 2:6] = True
    assert rise[flaw].mean() > rise[~flaw].mean()


@pytest.mark.slow
def test_seeded_and_resumed_bit_for_bit(trained, tmp_path):
    weights = trained.network.state_dict()
    stop = KeyboardInterrupt

    def interrupt(stage, done, total):
        if (stage, done) == ("train", 17):
            raise stop

    with pytest.raises(stop):
        SimpleNet.from_settings(TINY).fit(IMAGES, checkpoint=Checkpoint(tmp_path, {}, every_s=0), progress=interrupt)
    resumed = SimpleNet.from_settings(TINY).fit(IMAGES, checkpoint=Checkpoint(tmp_path, {})).network.state_dict()
    other = SimpleNet.from_settings({**TINY, "seed": 1}).fit(IMAGES).network.state_dict()
    for name, value in weights.items():
        assert torch.equal(value, resumed[name]), name
    assert not torch.equal(weights["adaptor.weight"], other["adaptor.weight"])


@pytest.mark.slow
def test_the_generator_is_absent_from_the_graph(model):
    graph = onnx.load(model / "model.onnx").graph
    operators = {node.op_type for node in graph.node}
    assert not operators & {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli"}
    assert [output.name for output in graph.output] == ["patch_scores"]
    # Two products of the discriminator and one of the adaptor; the backbone is convolutions.
    assert sum(node.op_type in ("Gemm", "MatMul") for node in graph.node) == 3
    assert "LeakyRelu" in operators


@pytest.mark.slow
def test_deployed_scores_are_the_trained_ones(model, line_data):
    artifact = Artifact.load(model)
    parity = compare_with_torch(artifact, [image.path for image in find_test_images(line_data)])
    assert parity.images == 20 and parity.passed, parity
    assert replay_golden(artifact).passed
    assert artifact.manifest.training["peak_memory_mib"] > 0
    assert not model.with_name("model.checkpoint").exists()
