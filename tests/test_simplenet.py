"""SimpleNet, pinned to the paper's loss and parts; training that learns, is seeded and resumes; the exported graph."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")
onnx = pytest.importorskip("onnx", reason="exporting needs the workstation's packages")

from torch import nn  # noqa: E402

from edgead.artifact.folder import Artifact  # noqa: E402
from edgead.dataset.folders import find_test_images  # noqa: E402
from edgead.export.verify import compare_with_torch, replay_golden  # noqa: E402
from edgead.methods.checkpoint import Checkpoint  # noqa: E402
from edgead.methods.simplenet import SimpleNet  # noqa: E402
from edgead.methods.simplenet_training import add_noise, truncated_l1  # noqa: E402
from edgead.training.from_folder import GoodImages, train_from_folder  # noqa: E402

TINY = {
    "backbone": "efficientnet_lite0",
    "image_size": (64, 64),
    "hidden": 32,
    "batch_patches": 64,
    "steps": 30,
    "noise_std": 0.5,
    "adaptor_lr": 1e-2,
    "discriminator_lr": 1e-2,
}


def texture(seed: int) -> np.ndarray:
    """Dots on grey: every patch of every image looks much the same."""
    image = np.full((64, 64, 3), 120, np.uint8)
    image[::4, ::4] = 160
    return image + np.random.default_rng(seed).integers(0, 6, (64, 64, 1), np.uint8)


IMAGES = [texture(seed) for seed in range(12)]


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


def test_the_generator_is_absent_from_the_graph(model):
    graph = onnx.load(model / "model.onnx").graph
    operators = {node.op_type for node in graph.node}
    assert not operators & {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli"}
    assert [output.name for output in graph.output] == ["patch_scores"]
    # Two products of the discriminator and one of the adaptor; the backbone is convolutions.
    assert sum(node.op_type in ("Gemm", "MatMul") for node in graph.node) == 3
    assert "LeakyRelu" in operators


def test_deployed_scores_are_the_trained_ones(model, line_data):
    artifact = Artifact.load(model)
    parity = compare_with_torch(artifact, [image.path for image in find_test_images(line_data)])
    assert parity.images == 20 and parity.passed, parity
    assert replay_golden(artifact).passed
    assert artifact.manifest.training["peak_memory_mib"] > 0
    assert not model.with_name("model.checkpoint").exists()
