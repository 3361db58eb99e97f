"""CS-Flow, pinned to the change of variables that it learns by; training that learns, is seeded and resumes."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")
onnx = pytest.importorskip("onnx", reason="exporting needs the workstation's packages")

import onnxruntime  # noqa: E402
from edgead.export.quantize import MIN_IMAGES, SCHEMES, measure_ranges, quantize  # noqa: E402
from edgead.export.verify import compare_with_torch, replay_golden  # noqa: E402

from edgead.artifact.folder import Artifact  # noqa: E402
from edgead.artifact.preprocess import preprocess  # noqa: E402
from edgead.dataset.folders import find_test_images  # noqa: E402
from edgead.errors import SettingsError  # noqa: E402
from edgead.images.files import load_image  # noqa: E402
from edgead.workstation.methods.cs_flow.detector import CsFlow, _drawn  # noqa: E402
from edgead.workstation.methods.cs_flow.flow import (  # noqa: E402
    CrossScaleFlow,
    FlowShape,
    Whitening,
    negative_log_likelihood,
    soft_clamp,
)
from edgead.workstation.methods.load import load_network  # noqa: E402
from edgead.workstation.trainer.checkpoint import Checkpoint  # noqa: E402
from edgead.workstation.training.from_folder import train_from_folder  # noqa: E402
from edgead.workstation.training.good_images import GoodImages  # noqa: E402

TINY = {
    "backbone": "efficientnet_lite0",
    "image_size": (64, 64),
    "hidden": 8,
    "kernels": (3, 3),
    "steps": 40,
    "batch_size": 4,
    "learning_rate": 1e-2,
}


def texture(seed: int) -> np.ndarray:
    """Dots on grey: every image looks much the same."""
    image = np.full((64, 64, 3), 120, np.uint8)
    image[::4, ::4] = 160
    return image + np.random.default_rng(seed).integers(0, 6, (64, 64, 1), np.uint8)


IMAGES = [texture(seed) for seed in range(24)]


def random_flow(scales: int, channels: int, *, clamp: float = 1.5) -> CrossScaleFlow:
    """A flow that has left the identity, which it begins as."""
    torch.manual_seed(0)
    flow = CrossScaleFlow(FlowShape(scales, channels, 6, clamp), (3, 5), seed=0).double()
    for name, parameter in flow.named_parameters():
        if name.endswith("gain"):
            parameter.data.uniform_(0.5, 1.0)
    return flow


def random_maps(channels: int, sides: tuple[int, ...], count: int = 1) -> list[torch.Tensor]:
    return [torch.randn(count, channels, side, side, dtype=torch.float64) for side in sides]


@pytest.fixture(scope="module")
def trained() -> CsFlow:
    return CsFlow.from_settings(TINY).fit(IMAGES)


def test_soft_clamp_by_hand():
    # 2 a / pi arctan(h / a): half of a at h = a, a at infinity, h near 0.
    values = soft_clamp(torch.tensor([0.0, 3.0, -3.0, 1e9, 1e-4]), 3.0)
    np.testing.assert_allclose(values, [0, 1.5, -1.5, 3.0, 2 / math.pi * 1e-4], rtol=1e-6)


def test_the_loss_by_hand():
    # -log p(y) = |z|^2 / 2 - log |det J| + constant: (1 + 4 + 9) / 2 - 1 and (16 / 2) + 2, each a third of it.
    fine, coarse = torch.tensor([[[[1.0, 2.0]]], [[[4.0, 0.0]]]]), torch.tensor([[[[3.0]]], [[[0.0]]]])
    loss = negative_log_likelihood([fine, coarse], torch.tensor([1.0, -2.0]))
    assert loss.item() == pytest.approx((6 / 3 + 10 / 3) / 2)


@pytest.mark.slow
def test_log_determinant_is_that_of_the_jacobian():
    """Of all scales together, as one map from all numbers to all numbers."""
    flow, maps = random_flow(2, 3), random_maps(3, (4, 2))
    sizes = [x.numel() for x in maps]

    def flat(values: torch.Tensor) -> torch.Tensor:
        parts = [part.view_as(x) for part, x in zip(values.split(sizes), maps, strict=True)]
        return torch.cat([z.flatten() for z in flow(parts)[0]])

    jacobian = torch.autograd.functional.jacobian(flat, torch.cat([x.flatten() for x in maps]))
    sign, expected = torch.linalg.slogdet(jacobian)
    assert abs(sign.item()) == 1
    assert flow(maps)[1].item() == pytest.approx(expected.item(), rel=1e-9)
    assert abs(expected.item()) > 0.1


def test_a_coupling_by_hand():
    """The half that is not changed decides scale and shift of the other, one after the other; the clamp bounds both."""
    block, (x,) = random_flow(1, 4).blocks[0], random_maps(4, (5,))
    (z,), log_determinant = block([x])
    shuffled = x[:, block.order0]
    one, other = shuffled[:, :2], shuffled[:, 2:]

    def parameters(network, half):
        hidden = torch.nn.functional.leaky_relu(network.into[0](half), 0.1)
        return (network.out[0](hidden) * network.gain[0]).split(2, dim=1)

    scale_one, shift_one = parameters(block.first, other)
    log_one = 2 * 1.5 / math.pi * torch.atan(scale_one / 1.5)
    one = one * torch.exp(log_one) + shift_one
    scale_other, shift_other = parameters(block.second, one)
    log_other = 2 * 1.5 / math.pi * torch.atan(scale_other / 1.5)
    other = other * torch.exp(log_other) + shift_other
    torch.testing.assert_close(z, torch.cat([one, other], dim=1))
    assert log_determinant.item() == pytest.approx((log_one.sum() + log_other.sum()).item())


def test_scales_tell_each_other():
    """A change at one scale reaches its neighbours in each coupling, whose size it does not have."""
    flow, maps = random_flow(3, 4), random_maps(4, (8, 4, 2))
    before, _ = flow(maps)
    assert [z.shape for z in before] == [x.shape for x in maps]
    for changed in range(3):
        others = [x + (scale == changed) for scale, x in enumerate(maps)]
        after, _ = flow(others)
        assert all((one - other).abs().max() > 1e-6 for one, other in zip(before, after, strict=True))


def test_the_flow_begins_as_a_permutation():
    maps = random_maps(5, (4, 2), count=2)
    z, log_determinant = CrossScaleFlow(FlowShape(2, 5, 6), (3,), seed=1).double()(maps)
    assert log_determinant.abs().max() == 0
    for one, other in zip(z, maps, strict=True):
        torch.testing.assert_close(one.sort(dim=1).values, other.sort(dim=1).values)
        assert not torch.equal(one, other)


def test_whitening():
    samples = torch.randn(4000, 3) @ torch.tensor([[1.0, 0, 0], [5, 0.1, 0], [0, 0, 0]]) + torch.tensor([1.0, 2.0, 3.0])
    whitening = Whitening(3)
    whitening.fit(samples)
    level = samples.T.reshape(1, 3, 40, 100)
    white = whitening(level)[0].flatten(1).double()
    assert white.mean(dim=1).abs().max() < 1e-4
    variances = torch.cov(white, correction=0).diag().sort().values
    # The third channel never changes; the first two have a direction that is quieter than what is made louder.
    assert variances[0] < 1e-6 and variances[2].item() == pytest.approx(1, rel=1e-3)
    assert torch.cov(white).fill_diagonal_(0).abs().max() < 1e-3
    assert 0 < variances[1] < 1.001


def test_each_epoch_takes_every_image():
    steps = [_drawn(10, 4, 0, step).tolist() for step in range(6)]
    for epoch in (steps[:3], steps[3:]):
        assert all(len(batch) == 4 for batch in epoch)
        assert sorted(sum(epoch, [])[:10]) == list(range(10))
    assert steps[:3] != steps[3:]
    assert sorted(_drawn(3, 16, 0, 7).tolist()) == [0, 1, 2]


@pytest.mark.slow
def test_image_score_is_the_mean_square_of_all_z(trained):
    network = trained.network
    image = torch.from_numpy(np.stack([texture(50), 255 - texture(51)]))
    with torch.inference_mode():
        patch_scores, image_score = network(image)
        z, _ = network.flow(network.whiten(network.levels(image)))
    squares = [x.double().square() for x in z]
    positions = sum(x[0, 0].numel() for x in z)
    expected = sum(x.mean(dim=1).flatten(1).sum(dim=1) for x in squares) / positions
    np.testing.assert_allclose(image_score, expected, rtol=1e-5)
    assert [tuple(x.shape[2:]) for x in z] == [(4, 4), (2, 2), (1, 1)]
    assert patch_scores.shape == (2, 4, 4)


@pytest.mark.slow
def test_training_lowers_the_loss_and_separates(trained):
    untrained = CsFlow.from_settings({**TINY, "steps": 1, "learning_rate": 0.0}).fit(IMAGES)
    images = torch.from_numpy(np.stack(IMAGES))
    fresh = torch.from_numpy(np.stack([texture(seed) for seed in range(50, 58)]))
    flawed = fresh.clone()
    flawed[:, 24:40, 24:40] = 30
    with torch.inference_mode():

        def loss(network):
            return negative_log_likelihood(*network.flow(network.whiten(network.levels(images)))).item()

        assert loss(trained.network) < loss(untrained.network) - 0.1
        (good_map, good), (bad_map, bad) = trained.network(fresh), trained.network(flawed)
    assert bad.min() > good.max()
    assert (bad_map - good_map)[:, 1:3, 1:3].mean() > 0


@pytest.mark.slow
def test_seeded_and_resumed_bit_for_bit(trained, tmp_path):
    weights = trained.network.state_dict()
    stop = KeyboardInterrupt

    def interrupt(stage, done, total):
        if (stage, done) == ("train", 17):
            raise stop

    with pytest.raises(stop):
        CsFlow.from_settings(TINY).fit(IMAGES, checkpoint=Checkpoint(tmp_path, {}, every_s=0), progress=interrupt)
    resumed = CsFlow.from_settings(TINY).fit(IMAGES, checkpoint=Checkpoint(tmp_path, {})).network.state_dict()
    other = CsFlow.from_settings({**TINY, "seed": 1}).fit(IMAGES).network.state_dict()
    for name, value in weights.items():
        assert torch.equal(value, resumed[name]), name
    name = "flow.blocks.0.first.into.0.weight"
    assert not torch.equal(weights[name], other[name])


@pytest.mark.slow
def test_deployed_scores_are_the_trained_ones(line_data, tmp_path):
    settings = {**TINY, "image_size": (128, 128), "scales": 2}
    good = GoodImages(line_data, false_reject_rate=0.05)
    artifact, _ = train_from_folder(good, tmp_path / "model", settings, detector="cs_flow")
    artifact = Artifact.load(artifact.path)
    parity = compare_with_torch(artifact, [image.path for image in find_test_images(line_data)])
    assert parity.images == 20 and parity.passed, parity
    assert replay_golden(artifact).passed
    assert load_network(artifact).flow.blocks[0].first.enlarge_first
    graph = onnx.load(artifact.model_path)
    assert [output.name for output in graph.graph.output] == ["patch_scores", "image_score"]
    # The coarser scale is made of the image as it comes, beside the quantised one that the backbone reads.
    images = [load_image(image.path) for image in find_test_images(line_data)][:MIN_IMAGES]
    images = [preprocess(image, artifact.manifest.preprocessing) for image in images]
    ranges = measure_ranges(graph, images, "minmax", lambda done, total: None)
    int8 = quantize(graph, ranges, SCHEMES["int8"]).SerializeToString()
    (score,) = onnxruntime.InferenceSession(int8).run(["image_score"], {"image": images[0][None]})[0]
    assert 0 < score < math.inf


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": (96, 64)}, "3 scales of stride16 need multiples of 64"),
        ({"kernels": (3, 4)}, "kernels are odd"),
        ({"hidden": 0}, "at least 1"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(SettingsError, match=message):
        CsFlow.from_settings({**TINY, **settings}, pretrained=False)
