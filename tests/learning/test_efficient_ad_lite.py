"""`efficient_ad`'s model size `lite`: what the student sees, what is folded into the graph, and how it learns."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")


from safetensors.torch import save_file  # noqa: E402

from edgead import metrics  # noqa: E402
from edgead.adapt.training.from_folder import train_from_folder  # noqa: E402
from edgead.adapt.training.good_images import GoodImages  # noqa: E402
from edgead.adapt.training.preset import preset_settings  # noqa: E402
from edgead.artifact.folder import Artifact  # noqa: E402
from edgead.artifact.manifest import GraphRecord, Manifest  # noqa: E402
from edgead.dataset.folders import find_test_images  # noqa: E402
from edgead.detector import Detector  # noqa: E402
from edgead.errors import SettingsError  # noqa: E402
from edgead.images.files import load_image, write_image  # noqa: E402
from edgead.workstation.methods.efficient_ad.detector import EfficientAD  # noqa: E402
from edgead.workstation.methods.efficient_ad.lite import (  # noqa: E402
    REACH,
    EfficientADLite,
    LiteConfig,
    hold_out,
    surround,
)
from edgead.workstation.methods.load import load_network  # noqa: E402
from edgead.workstation.trainer.checkpoint import Checkpoint  # noqa: E402

TINY = {"model_size": "lite", "backbone": "efficientnet_lite0", "image_size": (64, 80), "width": 8, "steps": 6}


def flat_grey(count: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [np.full((64, 80, 3), 120, np.uint8) + rng.integers(0, 40, (64, 80, 3), np.uint8) for _ in range(count)]


IMAGES = flat_grey(24)


def lite(**settings) -> EfficientADLite:
    return EfficientAD.from_settings({**TINY, **settings})


@pytest.fixture(scope="module")
def trained():
    return lite().fit(IMAGES)


def random_network(seed: int = 0):
    torch.manual_seed(seed)
    return EfficientAD.from_settings(TINY, pretrained=False).network


def test_lite_is_what_efficient_ad_is_by_default():
    assert isinstance(EfficientAD.from_settings(EfficientAD.presets["default"], pretrained=False), EfficientADLite)
    assert type(EfficientAD.from_settings(EfficientAD.presets["paper"], pretrained=False)) is EfficientAD
    model = lite()
    again = EfficientAD.from_settings(model.settings(), pretrained=False)
    assert again.settings() == model.settings() and model.settings()["model_size"] == "lite"
    with pytest.raises(SettingsError, match="efficient_ad has no setting padding"):
        lite(padding=True)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"image_size": (64, 72)}, "multiples of 16 from 64 on"),
        ({"image_size": (48, 64)}, "multiples of 16 from 64 on"),
        ({"backbone": "resnet18"}, "cannot teach here"),
        ({"validation_share": 1.0}, "between 0 and 1"),
    ],
)
def test_settings_that_cannot_be(settings, words):
    with pytest.raises(SettingsError, match=words):
        lite(**settings)


def test_the_student_sees_so_far_and_no_further():
    network = random_network()
    seen = torch.randn(1, network.student[0].in_channels, 64, 64)
    seen.requires_grad_()
    given = network.student(surround(seen))
    assert given.shape == (1, sum(network.channels), 32, 32)
    given[0, :, 16, 16].sum().backward()
    rows, columns = torch.nonzero(seen.grad[0].abs().sum(dim=0), as_tuple=True)
    reach = 2 * (16 - REACH), 2 * (16 + REACH) + 1
    assert (int(rows.min()), int(rows.max())) == (int(columns.min()), int(columns.max())) == reach


def test_a_crop_of_a_surrounded_layer_gives_what_the_whole_gives():
    network = random_network()
    seen = torch.randn(1, network.student[0].in_channels, 40, 40)
    whole, around = network.student(surround(seen)), surround(seen)
    crop = network.student(around[:, :, 4 : 2 * (2 + 8 + 2 * REACH), 6 : 2 * (3 + 8 + 2 * REACH)])
    torch.testing.assert_close(crop, whole[:, :, 2:10, 3:11], rtol=1e-4, atol=1e-6)


def test_the_scale_of_the_input_is_folded_into_the_student():
    network = random_network()
    seen = 3 + 5 * torch.randn(2, network.student[0].in_channels, 24, 24)
    mean, std = torch.rand(seen.shape[1], 1, 1), 0.5 + torch.rand(seen.shape[1], 1, 1)
    expected = network.student((seen - mean) / std)
    network.fold_input(mean, std)
    torch.testing.assert_close(network.student(seen), expected, rtol=1e-4, atol=1e-5)


def test_folded_errors_are_a_mahalanobis_distance():
    network = random_network()
    network.metric.copy_(torch.diag(0.5 + torch.rand(network.metric.shape[0]))[:, :, None, None])
    averaged = [
        torch.randn(1, count, 8 // step, 10 // step) for count, step in zip(network.channels, (1, 2), strict=True)
    ]
    seen = torch.randn(1, network.student[0].in_channels, 16, 20)

    def errors() -> torch.Tensor:
        return (network.describe(averaged) - network.student(surround(seen))).detach().double()

    before = errors()
    mixed = torch.randn(len(before[0]), len(before[0]), dtype=torch.float64)
    covariance = mixed @ mixed.T
    network.fold_errors(covariance.numpy())
    # Shrunk as `edgead.adapt.memory_bank.feature_space` says: 5 % of the mean variance in every direction.
    mean = covariance.trace() / len(covariance)
    shrunk = 0.95 * covariance / mean + 0.05 * torch.eye(len(covariance), dtype=torch.float64)
    flat = before[0].flatten(1)
    expected = (flat * torch.linalg.solve(shrunk, flat)).sum(dim=0)
    torch.testing.assert_close(errors()[0].flatten(1).square().sum(dim=0), expected, rtol=1e-3, atol=1e-3)


def test_the_taught_features_have_mean_0_and_deviation_1():
    network = lite().network
    rows = [4 + 3 * torch.randn(500, count) * torch.rand(count) for count in network.channels]
    network.fit_teacher(rows)
    taught = network.describe([layer[:, :, None, None] for layer in rows])
    assert taught.shape == (500, sum(network.channels), 1, 1)
    torch.testing.assert_close(
        taught.std(dim=(0, 2, 3), unbiased=False), torch.ones(taught.shape[1]), atol=1e-3, rtol=0
    )
    assert taught.mean(dim=(0, 2, 3)).abs().max() < 0.2  # damping bends the distribution a little


def test_layers_on_their_own_grids_differ_by_the_length_alone():
    """Enlarging is linear: it may come last, but for the length that damping divides by."""
    ours, before = random_network(), random_network()
    before.own_grids = False
    layers = [torch.randn(2, count, 16 // step, 12 // step) for count, step in zip(ours.channels, (1, 2), strict=True)]
    for network in (ours, before):
        generator = torch.Generator().manual_seed(0)
        for buffer in (network.mean, network.inverse_std, network.metric):
            buffer.copy_(torch.rand(buffer.shape, generator=generator))
        network.squared_length.fill_(1e6)  # beside which no patch has a length
    first, last = (1e3 * network.describe(network.average(layers)) for network in (before, ours))
    torch.testing.assert_close(last, first, rtol=1e-3, atol=1e-3)
    ours.squared_length.fill_(1.0)
    before.squared_length.fill_(1.0)
    assert not torch.allclose(ours.describe(ours.average(layers)), before.describe(before.average(layers)), rtol=1e-2)


@pytest.mark.parametrize("own_grids", [False, True])
def test_a_model_is_rebuilt_with_its_layers_on_their_grids(tmp_path, own_grids):
    model = lite(own_grids=own_grids)
    save_file(model.network.state_dict(), tmp_path / "weights.safetensors")
    draft = Manifest.draft(model.name, model.preprocessing, model.head, graphs={"fp32": GraphRecord()})
    manifest = draft.model_copy(update={"training": {"settings": model.settings()}})
    assert load_network(Artifact(tmp_path, manifest)).own_grids == own_grids


def test_whole_groups_are_held_out():
    of_image = np.repeat(np.arange(10), 4)
    learnt, held_out = hold_out(of_image, 0.15, np.random.default_rng(0))
    assert len(held_out) == 8 and sorted([*learnt, *held_out]) == list(range(40))
    assert not set(of_image[learnt]) & set(of_image[held_out])
    with pytest.raises(SettingsError, match="of different groups, found 6"):
        lite().fit(IMAGES[:6], groups=[3] * 6)


def test_seeded_and_resumed_bit_for_bit(trained, tmp_path):
    class Stopped(Exception):
        pass

    def stop(stage, done, total):
        if (stage, done) == ("train", 3):
            raise Stopped

    with pytest.raises(Stopped):
        lite().fit(IMAGES, progress=stop, checkpoint=Checkpoint(tmp_path, {}, every_s=0))
    resumed = lite().fit(IMAGES, checkpoint=Checkpoint(tmp_path, {}, every_s=0))
    for name, value in trained.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name
    other = lite(seed=1).fit(IMAGES).network.state_dict()
    assert not torch.equal(other["student.0.weight"], trained.network.state_dict()["student.0.weight"])


def test_a_stain_stands_out_and_places_are_learnt(trained):
    assert trained.network.usual.shape == (8, 10) and trained.network.usual.max() > 0
    assert not lite(fill="reflect").fit(IMAGES).network.usual.any()
    of_0_1_0 = {name: value for name, value in trained.network.state_dict().items() if name != "usual"}
    new = lite()
    new.network.load_state_dict(of_0_1_0)
    assert not new.network.usual.any()  # it was beside the graph
    good = torch.from_numpy(np.stack(flat_grey(2, seed=7)))
    stained = good.clone()
    stained[:, 24:40, 24:40] = torch.from_numpy(np.random.default_rng(3).integers(0, 256, (16, 16, 3), np.uint8))
    with torch.inference_mode():
        of_good, of_stained = (trained.network(image).amax(dim=(1, 2)) for image in (good, stained))
    assert (of_stained > of_good + 0.5).all()


@pytest.mark.slow
def test_exported_graph(trained, tmp_path):
    import onnxruntime
    from edgead.export.graph import export_onnx

    export_onnx(
        trained.network, tmp_path / "model.onnx", Manifest.draft("efficient_ad", trained.preprocessing, trained.head)
    )
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    batch = np.stack(flat_grey(3, seed=9))
    (scores,) = session.run(["patch_scores"], {"image": batch})
    with torch.inference_mode():
        expected = trained.network(torch.from_numpy(batch)).numpy()
    assert scores.shape == (3, 8, 10)
    np.testing.assert_allclose(scores, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_the_default_keeps_the_proportions_of_the_images(tmp_path):
    for number in range(3):
        write_image(tmp_path / f"{number}.png", np.zeros((60, 120, 3), np.uint8))
    good = GoodImages(tmp_path)
    settings, account = preset_settings(good, "efficient_ad", "default")
    height, width = settings["image_size"]
    assert width == pytest.approx(2 * height, rel=0.1) and "in proportion to the images" in account
    LiteConfig(**settings)
    assert preset_settings(good, "efficient_ad", "paper") == ({}, "")
    # Another network has no use for that input.
    small = {"model_size": "small"}
    assert preset_settings(good, "efficient_ad", "default", small)[0] == {"model_size": "lite"}


@pytest.mark.slow
def test_finds_the_defects_of_the_built_in_line(line_data, tmp_path):
    settings = {"model_size": "lite", "backbone": "efficientnet_lite0", "image_size": (256, 256), "steps": 150}
    good = GoodImages(line_data, false_reject_rate=0.1)
    artifact, _ = train_from_folder(good, tmp_path / "model", settings, detector="efficient_ad")
    tests = find_test_images(line_data)
    with Detector.load(artifact.path) as detector:
        scores = [detector.predict(load_image(test.path)).image_score for test in tests]
    assert metrics.auroc(np.array([test.is_defective for test in tests]), np.array(scores)) > 0.8
    assert load_network(artifact).quantiles[1] != 1  # what was learnt comes back
