"""DRAEM: losses, blending and noise by hand, the published networks, training that learns and resumes, the graph."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")

import onnx  # noqa: E402
import onnxruntime  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from edgead.export.verify import compare_with_torch  # noqa: E402

from edgead.adapt.training.from_folder import train_from_folder  # noqa: E402
from edgead.adapt.training.good_images import GoodImages  # noqa: E402
from edgead.dataset.folders import DatasetError, find_test_images  # noqa: E402
from edgead.dataset.images import Images  # noqa: E402
from edgead.errors import SettingsError  # noqa: E402
from edgead.heads.map import MapHead, MapScorer  # noqa: E402
from edgead.images.files import load_image, write_image  # noqa: E402
from edgead.synthetic.made_set import Made, Recipe, make_defects  # noqa: E402
from edgead.synthetic.rejects import by_masks, find_rejects  # noqa: E402
from edgead.workstation.methods.draem.anomalies import _FUNCTIONS, Simulator, augment, blend  # noqa: E402
from edgead.workstation.methods.draem.anomaly_textures import built_in_textures, folder_textures  # noqa: E402
from edgead.workstation.methods.draem.detector import Draem, DraemConfig, rate_factor  # noqa: E402
from edgead.workstation.methods.draem.made_pairs import MadePairs  # noqa: E402
from edgead.workstation.methods.draem.networks import (  # noqa: E402
    DraemNetwork,
    focal_loss,
    initialise,
    reconstruction_loss,
    structural_similarity,
)
from edgead.workstation.methods.draem.perlin import perlin_mask, perlin_noise  # noqa: E402
from edgead.workstation.methods.load import load_network  # noqa: E402
from edgead.workstation.trainer.checkpoint import Checkpoint  # noqa: E402
from edgead.workstation.trainer.pretraining_images import draw_texture  # noqa: E402

TINY = {"image_size": (32, 32), "width": 1 / 32, "steps": 6, "batch_size": 4, "window": 9}


def good_images(count: int = 4, size: tuple[int, int] = (32, 32)) -> list[np.ndarray]:
    """Smooth colour ramps with a little noise."""
    rng = np.random.default_rng(0)
    ramp = np.add.outer(np.linspace(40, 120, size[0]), np.linspace(0, 80, size[1]))[..., None] * [1, 0.9, 0.8]
    return [np.clip(ramp + rng.normal(0, 4, (*size, 3)), 0, 255).astype(np.uint8) for _ in range(count)]


def draw(count: int, **settings) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    images = good_images()
    simulator = Simulator(images, built_in_textures(images), **{"match_grey": False, **settings})
    return [simulator.sample(rng) for rng in np.random.default_rng(1).spawn(count)]


def test_ssim_by_hand():
    # Flat patches, far from the border: variances and covariance are 0, so only the luminance is left,
    # (2 a b + 0.01^2) / (a^2 + b^2 + 0.01^2).
    a, b = torch.full((1, 1, 15, 15), 0.5, dtype=torch.float64), torch.full((1, 1, 15, 15), 0.25, dtype=torch.float64)
    middle = structural_similarity(a, b)[0, 0, 7, 7]
    assert float(middle) == pytest.approx((0.25 + 1e-4) / (0.3125 + 1e-4), rel=1e-12)
    same = torch.rand(2, 3, 16, 12, dtype=torch.float64)
    np.testing.assert_allclose(structural_similarity(same, same), 1, rtol=1e-9)


def test_ssim_is_its_definition_at_every_pixel():
    a, b = np.random.default_rng(0).random((2, 13, 12))
    offsets = np.arange(-5, 6)
    weights = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    weights /= weights.sum()
    found = structural_similarity(torch.from_numpy(a)[None, None], torch.from_numpy(b)[None, None])[0, 0]
    padded_a, padded_b = np.pad(a, 5), np.pad(b, 5)
    for y, x in ((0, 0), (0, 6), (6, 6), (12, 11)):
        p, q = padded_a[y : y + 11, x : x + 11], padded_b[y : y + 11, x : x + 11]
        mean_p, mean_q = (weights * p).sum(), (weights * q).sum()
        variance_p, variance_q = (weights * p * p).sum() - mean_p**2, (weights * q * q).sum() - mean_q**2
        covariance = (weights * p * q).sum() - mean_p * mean_q
        expected = (2 * mean_p * mean_q + 0.01**2) * (2 * covariance + 0.03**2)
        expected /= (mean_p**2 + mean_q**2 + 0.01**2) * (variance_p + variance_q + 0.03**2)
        assert float(found[y, x]) == pytest.approx(expected, rel=1e-9)


def test_losses_by_hand():
    # Equation 2 with lambda = 1: the mean of 1 - SSIM (equation 1), and the mean squared difference.
    a, b = torch.rand(2, 2, 3, 16, 16, dtype=torch.float64)
    expected = float((1 - structural_similarity(a, b)).mean() + (a - b).square().mean())
    assert float(reconstruction_loss(a, b)) == pytest.approx(expected, rel=1e-12)
    # Lin et al. 2017, equation 4 with gamma = 2. Logits 0 and ln 3: the anomalous class has p = 3/4.
    logits = torch.tensor([0.0, math.log(3)], dtype=torch.float64).view(1, 2, 1, 1).expand(1, 2, 1, 2)
    mask = torch.tensor([[[True, False]]])
    expected = (-(0.25**2) * math.log(0.75) - 0.75**2 * math.log(0.25)) / 2
    assert float(focal_loss(logits, mask)) == pytest.approx(expected, rel=1e-12)


def test_the_loss_is_the_sum_of_both():
    model = Draem.from_settings(TINY)
    simulator = Simulator(good_images(), lambda shape, rng: np.full((*shape, 3), 200, np.uint8), match_grey=False)
    with ThreadPoolExecutor(1) as executor:
        batch = simulator.batch(3, np.random.default_rng(0), executor)
    image, corrupted = (torch.from_numpy(x).permute(0, 3, 1, 2) for x in (batch.image, batch.corrupted))
    with torch.inference_mode():
        repaired = model.network.reconstructive(corrupted)
        logits = model.network.discriminative(torch.cat([repaired, corrupted], dim=1))
        expected = reconstruction_loss(image, repaired) + focal_loss(logits, torch.from_numpy(batch.mask))
        assert float(model.loss(batch)) == pytest.approx(float(expected), rel=1e-6)


def test_blending_by_hand():
    # Equation 4: outside the mask I; inside (1 - beta) I + beta A.
    image, texture = np.full((1, 2, 3), 0.8, np.float32), np.full((1, 2, 3), 0.2, np.float32)
    mixed = blend(image, texture, np.array([[True, False]]), 0.25)
    assert mixed.dtype == np.float32
    np.testing.assert_allclose(mixed[0], [[0.75 * 0.8 + 0.25 * 0.2] * 3, [0.8] * 3], rtol=1e-6)


def test_perlin_noise_by_hand():
    angle = np.random.default_rng(5).uniform(0, 2 * np.pi, (3, 2))
    noise = perlin_noise((8, 4), (2, 1), np.random.default_rng(5))
    assert noise.dtype == np.float32
    np.testing.assert_allclose(noise[::4, 0], 0, atol=1e-7)  # the corners of the cells
    # The middle of the lower cell: every fade is 1/2, so it is the mean of the four ramps, times sqrt 2.
    ramps = [
        np.cos(angle[1 + down, right]) * (0.5 - down) + np.sin(angle[1 + down, right]) * (0.5 - right)
        for down in (0, 1)
        for right in (0, 1)
    ]
    assert noise[6, 2] == pytest.approx(np.sqrt(2) * np.mean(ramps), abs=1e-6)
    # A quarter of the way down the first cell, on its left edge: fade(1/4) = 6/1024 - 15/256 + 10/64.
    fade = 6 / 4**5 - 15 / 4**4 + 10 / 4**3
    upper, lower = np.cos(angle[0, 0]) * 0.25, np.cos(angle[1, 0]) * (0.25 - 1)
    assert noise[1, 0] == pytest.approx(np.sqrt(2) * (upper + fade * (lower - upper)), abs=1e-6)
    assert np.abs(perlin_noise((96, 160), (8, 32), np.random.default_rng(0))).max() <= 1


def test_perlin_masks():
    masks = [perlin_mask((96, 160), rng) for rng in np.random.default_rng(0).spawn(200)]
    assert all(mask.shape == (96, 160) and mask.dtype == bool for mask in masks)
    shares = np.array([mask.mean() for mask in masks])
    # Anomalies are a small part of the image, of all sizes, and some masks are empty.
    assert 0.02 < shares.mean() < 0.1 and shares.max() < 0.6
    assert 0 < (shares == 0).mean() < 0.2
    np.testing.assert_array_equal(masks[3], perlin_mask((96, 160), np.random.default_rng(0).spawn(200)[3]))
    sizes = {cv2.connectedComponents(mask.astype(np.uint8))[0] for mask in masks}
    assert min(sizes) <= 2 and max(sizes) > 20


def test_samples_are_changed_inside_the_mask_only():
    samples = draw(60)
    anomalous = [sample for sample in samples if sample[2].any()]
    assert 15 < len(anomalous) < 45  # half, less the empty masks
    for image, corrupted, mask in samples:
        np.testing.assert_array_equal(image[~mask], corrupted[~mask])
        assert 0 <= corrupted.min() and corrupted.max() <= 1 and image.dtype == corrupted.dtype == np.float32
    changed = [np.abs(image - corrupted)[mask].mean() for image, corrupted, mask in anomalous]
    assert np.median(changed) > 0.05
    rotated = [image for image, _, _ in samples if all(np.abs(image * 255 - good).max() > 1 for good in good_images())]
    assert 5 < len(rotated) < 35


def test_textures_lose_their_colour_on_grey_images():
    grey = [np.repeat(image[..., :1], 3, axis=2) for image in good_images()]
    colourful = lambda shape, rng: rng.integers(0, 256, (*shape, 3), np.uint8)  # noqa: E731
    for match_grey in (True, False):
        simulator = Simulator(grey, colourful, match_grey=match_grey)
        samples = [simulator.sample(rng) for rng in np.random.default_rng(0).spawn(20)]
        spreads = [np.ptp(corrupted[mask], axis=1).max() for _, corrupted, mask in samples if mask.any()]
        assert (max(spreads) == 0) == match_grey


def test_batches_depend_on_the_seed_alone():
    images = good_images()
    simulator = Simulator(images, built_in_textures(images), match_grey=False)
    batches = []
    for threads in (1, 4):
        with ThreadPoolExecutor(threads) as executor:
            batches.append(simulator.batch(8, np.random.default_rng(2), executor))
    for one, other in zip(*batches, strict=True):
        np.testing.assert_array_equal(one, other)
    assert batches[0].image.shape == (8, 32, 32, 3) and batches[0].mask.shape == (8, 32, 32)


@pytest.mark.parametrize("function", _FUNCTIONS, ids=lambda function: function.__name__)
def test_every_augmentation_changes_a_texture(function):
    texture = draw_texture(np.random.default_rng(3), 48)[:40]
    changed = function(texture, np.random.default_rng(0))
    assert changed.dtype == np.uint8 and changed.shape == texture.shape
    assert (changed != texture).any()


def test_textures(tmp_path):
    rng = np.random.default_rng(0)
    images = good_images(size=(48, 40))
    texture = built_in_textures(images)
    drawn = [texture((64, 96), rng) for _ in range(12)]
    assert all(one.shape == (64, 96, 3) and one.dtype == np.uint8 for one in drawn)
    assert len({one.tobytes() for one in drawn}) == 12
    assert len({augment(drawn[0], rng).tobytes() for _ in range(12)}) > 6
    (tmp_path / "banded").mkdir()
    cv2.imwrite(str(tmp_path / "banded" / "red.png"), np.full((10, 10, 3), (0, 0, 255), np.uint8))
    assert (folder_textures(tmp_path)((20, 30), rng) == (255, 0, 0)).all()  # RGB
    (tmp_path / "banded" / "red.png").unlink()
    with pytest.raises(DatasetError, match="anomaly_source .* holds no images"):
        Draem.from_settings({**TINY, "anomaly_source": str(tmp_path)}).fit(images)


def test_published_networks():
    # The counts of the authors' ReconstructiveSubNetwork(3, 3) and DiscriminativeSubNetwork(6, 2).
    with torch.device("meta"):
        network = DraemNetwork()
    counts = [sum(p.numel() for p in part.parameters()) for part in (network.reconstructive, network.discriminative)]
    assert counts == [69_048_579, 28_374_146]


def test_initial_weights():
    torch.manual_seed(0)
    network = DraemNetwork(1 / 8)
    initialise(network)
    convolution, normalisation = network.reconstructive.encoder[2][1][:2]
    assert float(convolution.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert abs(float(convolution.weight.detach().mean())) < 1e-3
    assert float(normalisation.weight.detach().mean()) == pytest.approx(1, abs=0.02) and not normalisation.bias.any()


def test_scores_are_the_softmax_to_the_last_digits():
    network = DraemNetwork(1 / 32).eval()
    bias = network.discriminative.last.bias
    image = torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8)
    for gap in (-30.0, -3.0, 0.0, 90.0):
        with torch.inference_mode():
            bias.copy_(torch.tensor([0.0, gap]))
            scores = network(image)
            _, logits = network.reconstruct_and_segment(image.permute(0, 3, 1, 2).float() / 255)
            np.testing.assert_allclose(scores, torch.softmax(logits.double(), dim=1)[:, 1], rtol=1e-5)


def test_image_score_is_the_published_one():
    # The authors average over 21 x 21 with zeros beyond the border; a window inside the map is never less.
    scores = np.random.default_rng(0).random((64, 96), np.float32) ** 8
    scores[:9, :7] = 1
    head = Draem.from_settings({**TINY, "window": 21}).head
    assert head == MapHead(window=21, sigma_px=0)
    expected = F.avg_pool2d(torch.from_numpy(scores)[None], 21, stride=1, padding=10).max()
    scorer = MapScorer(head, (64, 96), (64, 96))
    assert scorer.image_score(scores) == pytest.approx(float(expected), rel=1e-6)
    anomaly_map, maximum = scorer.anomaly_map(scores)
    np.testing.assert_array_equal(anomaly_map, scores)
    assert maximum == 1


def test_learning_rate_decays_as_published():
    factors = [rate_factor(700, epoch) for epoch in (0, 399, 400, 599, 600, 699)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_training_lowers_the_loss():
    images = good_images()
    model = Draem.from_settings({**TINY, "steps": 40, "learning_rate": 1e-3})
    simulator = Simulator(images, built_in_textures(images), match_grey=False)
    with ThreadPoolExecutor(1) as executor:
        batch = simulator.batch(8, np.random.default_rng(99), executor)

    def loss() -> float:
        with torch.inference_mode():
            return float(model.loss(batch))

    before = loss()
    model.fit(images)
    assert loss() < 0.85 * before
    assert not model.network.training


def test_bfloat16_is_for_the_products_alone():
    images = good_images()
    simulator = Simulator(images, built_in_textures(images), match_grey=False)
    with ThreadPoolExecutor(1) as executor:
        batch = simulator.batch(4, np.random.default_rng(0), executor)
    exact, rounded = (Draem.from_settings({**TINY, "bfloat16": wanted}).loss(batch) for wanted in (False, True))
    assert rounded.dtype == torch.float32
    assert exact.item() != rounded.item() == pytest.approx(exact.item(), rel=0.02)


def test_resuming_gives_the_same_weights(tmp_path):
    def interrupt(stage, done, total):
        if done == 3:
            raise KeyboardInterrupt

    whole = Draem.from_settings(TINY).fit(good_images())
    with pytest.raises(KeyboardInterrupt):
        Draem.from_settings(TINY).fit(good_images(), checkpoint=Checkpoint(tmp_path, {}, every_s=0), progress=interrupt)
    done = []
    resumed = Draem.from_settings(TINY).fit(
        good_images(), checkpoint=Checkpoint(tmp_path, {}), progress=lambda stage, step, total: done.append(step)
    )
    assert done == [3, 4, 5, 6]
    expected = whole.network.state_dict()
    for name, value in resumed.network.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_epochs_are_steps():
    seen = []
    settings = {**TINY, "steps": None, "epochs": 3, "batch_size": 2}
    Draem.from_settings(settings).fit(good_images(3), progress=lambda stage, done, total: seen.append(total))
    assert set(seen) == {6}  # three times ceil(3 / 2)


@pytest.fixture(scope="module")
def artifact(line_data, tmp_path_factory):
    path = tmp_path_factory.mktemp("draem") / "model"
    return train_from_folder(GoodImages(line_data), path, TINY, detector="draem")[0]


@pytest.mark.slow
def test_the_artifact_holds_both_networks_and_no_simulator(artifact, line_data):
    graph = onnx.load(artifact.model_path).graph
    assert [value.name for value in graph.output] == ["patch_scores"]
    shape = [dim.dim_param or dim.dim_value for dim in graph.output[0].type.tensor_type.shape.dim]
    assert shape == ["batch", 32, 32]
    operations = [node.op_type for node in graph.node]
    assert not any(operation.startswith("Random") for operation in operations)
    assert operations.count("Conv") == (5 * 2 + 4 * 3 + 1) + (6 * 2 + 5 * 3 + 1)  # repair, and find
    parity = compare_with_torch(artifact, [image.path for image in find_test_images(line_data)[::4]])
    assert parity.passed and parity.score_error <= 1e-4
    assert not (artifact.path / "memory_bank.npy").exists()


@pytest.mark.slow
@pytest.mark.parametrize("gap", [-20.0, 20.0])
def test_tiny_scores_survive_the_export(artifact, gap):
    # A trained network is sure of itself: scores of good images are tiny, and their ranks must not be the engine's.
    network = load_network(artifact)
    model = onnx.load(artifact.model_path)
    bias = next(tensor for tensor in model.graph.initializer if tensor.name == "discriminative.last.bias")
    shifted = np.array([0, gap], np.float32)
    bias.CopyFrom(onnx.numpy_helper.from_array(shifted, bias.name))
    image = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    (deployed,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"image": image})
    with torch.inference_mode():
        network.discriminative.last.bias.copy_(torch.from_numpy(shifted))
        _, logits = network.reconstruct_and_segment(torch.from_numpy(image).permute(0, 3, 1, 2).float() / 255)
    expected = torch.softmax(logits.double(), dim=1)[:, 1]
    np.testing.assert_allclose(deployed, expected, rtol=1e-4)


def test_settings():
    assert DraemConfig() == DraemConfig(
        image_size=(256, 256), width=1.0, match_grey=False, epochs=700, steps=None, batch_size=8, learning_rate=1e-4
    )
    assert set(Draem.presets) == {"default", "cpu"} and Draem.presets["default"] == {}
    for settings in Draem.presets.values():
        DraemConfig(**settings)
    with pytest.raises(SettingsError, match="multiples of 32"):
        Draem.from_settings({"image_size": [100, 96]})
    with pytest.raises(SettingsError, match="width 0.001"):
        Draem.from_settings({"width": 0.001})
    with pytest.raises(SettingsError, match="at least 1"):
        Draem.from_settings({**TINY, "steps": 0})
    with pytest.raises(SettingsError, match="no backbone"):
        Draem.from_settings(TINY, weights="w.safetensors")


# The authors of AnoGen, https://github.com/gaobb/AnoGen at 048a0de, DRAEM/train_DRAEM.py, on the logits and the mask
# below: the loss at each p_cutoff, and the sum of its gradient's sizes. They keep probabilities from 0 by 1e-5.
WEAK_LOSSES = {
    0.0: (1.036010503768921, 0.9434269666671753),
    0.1: (0.8003018498420715, 0.803297758102417),
    0.5: (0.7303357124328613, 0.6752452254295349),
}


@pytest.mark.parametrize("cutoff", WEAK_LOSSES)
def test_the_weak_loss_is_the_one_of_the_authors_of_anogen(cutoff):
    rng = np.random.Generator(np.random.Philox(7))
    logits = torch.from_numpy(rng.normal(0, 2, (2, 2, 256, 256)).astype(np.float32)).requires_grad_()
    mask = torch.from_numpy(rng.random((2, 1, 256, 256)) < 0.3)[:, 0]
    loss = focal_loss(logits, mask, cutoff)
    (gradient,) = torch.autograd.grad(loss, logits)
    expected = WEAK_LOSSES[cutoff]
    assert loss.item() == pytest.approx(expected[0], rel=2e-3)
    assert gradient.abs().sum().item() == pytest.approx(expected[1], rel=3e-3)


@pytest.fixture
def made(tmp_path):
    """Defects on six grey parts: a black square each, at the same place."""
    for number in range(6):
        write_image(tmp_path / "good" / f"{number}.png", np.full((48, 48, 3), 90 + 10 * number, np.uint8))
    mask = np.zeros((48, 48), np.uint8)
    mask[10:22, 12:26] = 255
    image = np.full((48, 48, 3), 120, np.uint8)
    image[mask > 0] = 2
    write_image(tmp_path / "rejects" / "hole" / "a.png", image)
    write_image(tmp_path / "masks" / "hole" / "a_mask.png", mask)
    real = by_masks(find_rejects(tmp_path / "rejects"), tmp_path / "masks")

    def make(real, shapes):
        for path in [*shapes, *shapes]:
            flawed = load_image(path)
            flawed[mask > 0] = 2
            yield Made(flawed, mask > 0, "hole", path)

    make_defects(sorted((tmp_path / "good").iterdir()), real, tmp_path / "made", Recipe(method="painted"), make=make)
    return tmp_path


def test_half_of_the_samples_are_made_pairs_and_half_of_those_have_a_defect(made):
    images = Images(sorted((made / "good").iterdir()), Draem(DraemConfig(**TINY)).preprocessing)
    pairs = MadePairs(made / "made", images, images.spec)
    samples = [pairs.sample(rng) for rng in np.random.default_rng(0).spawn(400)]
    flawed = [sample for sample in samples if sample[2].any()]
    assert 0.4 < len(flawed) / 400 < 0.6
    for clean, corrupted, mask in flawed:
        assert clean.shape == corrupted.shape == (32, 32, 3) and clean.dtype == corrupted.dtype == np.float32
        assert corrupted[mask].mean() < 0.6 * clean[mask].mean()
        assert np.abs(corrupted - clean)[~mask].mean() < 0.05
    assert all(np.array_equal(clean, corrupted) for clean, corrupted, mask in samples if not mask.any())
    simulator = Simulator(images, built_in_textures(list(images)), match_grey=True, made=pairs)
    calls = []
    simulator._made = mock.Mock(sample=lambda rng: calls.append(1) or pairs.sample(rng))
    for rng in np.random.default_rng(1).spawn(200):
        simulator.sample(rng)
    assert 75 < len(calls) < 125


def test_only_defects_on_parts_that_are_learnt_are_taken(made):
    """The others may be held out: a model that has seen them would have thresholds that are too low."""
    spec = Draem(DraemConfig(**TINY)).preprocessing
    paths = sorted((made / "good").iterdir())
    every = MadePairs(made / "made", Images(paths, spec), spec)
    some = MadePairs(made / "made", Images(paths[:3], spec), spec)
    assert 0 < len(some) < len(every) == 12
    assert {file[0].name for file in some._files} <= {path.name for path in paths[:3]}
    write_image(made / "other.png", np.full((48, 48, 3), 33, np.uint8))
    with pytest.raises(DatasetError, match="no defect in .* is on a part that is learnt"):
        MadePairs(made / "made", Images([made / "other.png"], spec), spec)


def test_draem_learns_from_made_defects(made):
    images = Images(sorted((made / "good").iterdir()), Draem(DraemConfig(**TINY)).preprocessing)
    without = Draem.from_settings(TINY).fit(images)
    trained = Draem.from_settings({**TINY, "defects": str(made / "made"), "p_cutoff": 0.1}).fit(images)
    assert trained.settings["defects"] == str(made / "made")
    pairs = zip(without.network.parameters(), trained.network.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)
    with pytest.raises(DatasetError, match=r"holds no made.json"):
        Draem.from_settings({**TINY, "defects": str(made / "good")}).fit(images)
    with pytest.raises(SettingsError, match="p_cutoff 1.0: a probability"):
        DraemConfig(p_cutoff=1.0)
