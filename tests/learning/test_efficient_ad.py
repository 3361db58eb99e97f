"""EfficientAD pinned to the tables, equations and algorithms of arXiv 2303.14535."""

from __future__ import annotations

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")

from safetensors.torch import save_file  # noqa: E402
from torch import nn  # noqa: E402

from edgead.artifact.manifest import Manifest  # noqa: E402
from edgead.errors import SettingsError  # noqa: E402
from edgead.heads.map import MapHead  # noqa: E402
from edgead.images.files import ImageError, write_image  # noqa: E402
from edgead.workstation.methods import load  # noqa: E402
from edgead.workstation.methods.efficient_ad import detector  # noqa: E402
from edgead.workstation.methods.efficient_ad.detector import EfficientAD, EfficientADConfig, rate_factor  # noqa: E402
from edgead.workstation.methods.efficient_ad.student_teacher import (  # noqa: E402
    CHANNELS,
    BilinearResize,
    StudentTeacher,
    augment,
    build_autoencoder,
    build_pdn,
    draw_other,
    hard_feature_loss,
    map_quantiles,
    total_loss,
)
from edgead.workstation.methods.efficient_ad.teacher import load_teacher  # noqa: E402
from edgead.workstation.trainer.checkpoint import Checkpoint  # noqa: E402
from edgead.workstation.trainer.prefetch import Prefetcher  # noqa: E402
from edgead.workstation.trainer.pretraining_images import (  # noqa: E402
    PretrainingImages,
    draw_texture,
    find_photographs,
)

CPU = torch.device("cpu")


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def noise(count: int, side: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (side, side, 3), np.uint8) for _ in range(count)]


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory):
    """A teacher that has learned nothing: what follows does not depend on it."""
    file = tmp_path_factory.mktemp("teacher") / "small.safetensors"
    torch.manual_seed(1)
    save_file({name: value.half() for name, value in build_pdn("small", CHANNELS).state_dict().items()}, file)
    return file


def tiny(teacher_file, **settings) -> EfficientAD:
    settings = {"model_size": "small", "image_size": (64, 64), "steps": 6, "validation_share": 0.25, **settings}
    return EfficientAD.from_settings(settings, weights=teacher_file)


# The networks


def test_layer_tables():
    # Weights and biases of the convolutions of tables 6 and 7, added up by hand.
    small = (3 * 16 * 128 + 128) + (128 * 16 * 256 + 256) + (256 * 9 * 256 + 256) + (256 * 16 * 384 + 384)
    medium = (
        (3 * 16 * 256 + 256)
        + (256 * 16 * 512 + 512)
        + (512 * 512 + 512)
        + (512 * 9 * 512 + 512)
        + (512 * 16 * 384 + 384)
        + (384 * 384 + 384)
    )
    assert parameters(build_pdn("small", 384)) == small == 2_694_144
    assert parameters(build_pdn("medium", 384)) == medium == 8_026_624
    # Table 8: the decoder's sizes, the bottleneck, and all of its convolutions.
    autoencoder = build_autoencoder(384, (256, 256))
    assert [layer.size[0] for layer in autoencoder if isinstance(layer, BilinearResize)] == [3, 8, 15, 32, 63, 127, 56]
    assert sum(isinstance(layer, nn.Dropout) and layer.p == 0.2 for layer in autoencoder) == 6
    encoder = (3 * 16 * 32 + 32) + (32 * 16 * 32 + 32) + (32 * 16 * 64 + 64) + 2 * (64 * 16 * 64 + 64)
    decoder = 6 * (64 * 16 * 64 + 64) + (64 * 9 * 64 + 64) + (64 * 9 * 384 + 384)
    assert parameters(autoencoder) == encoder + (64 * 64 * 64 + 64) + decoder
    shapes = []
    for layer in autoencoder:
        layer.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape[1:])))
    with torch.inference_mode():
        assert autoencoder(torch.zeros(1, 3, 256, 256)).shape == (1, 384, 56, 56)
    assert (64, 1, 1) in shapes  # all that the decoder learns of the image


@pytest.mark.parametrize("size", ["small", "medium"])
def test_every_pdn_describes_33_pixels_every_four(size):
    network = build_pdn(size, 5).double()
    for layer in network:
        if isinstance(layer, nn.Conv2d):
            nn.init.uniform_(layer.weight, 0.1, 1)  # so that no ReLU closes a path
    image = torch.rand(1, 3, 65, 65, dtype=torch.float64, requires_grad=True)
    output = network(image)
    assert output.shape == (1, 5, 9, 9)
    output[0, 0, 3, 5].backward()
    rows, columns = torch.nonzero(image.grad[0].abs().sum(0), as_tuple=True)
    assert (rows.min(), rows.max()) == (12, 12 + 32)
    assert (columns.min(), columns.max()) == (20, 20 + 32)


@pytest.mark.parametrize("size", ["small", "medium"])
def test_padding_adds_four_positions_on_every_side(size):
    plain, padded = build_pdn(size, 4), build_pdn(size, 4, padding=True)
    padded.load_state_dict(plain.state_dict())
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        inner, whole = plain(image), padded(image)
    assert inner.shape[-2:] == (8, 8) and whole.shape[-2:] == (16, 16)
    np.testing.assert_allclose(whole[..., 4:12, 4:12], inner, atol=1e-5)


def test_sizes_that_no_network_has():
    with pytest.raises(SettingsError, match="'small' or 'medium', found 'large'"):
        EfficientAD.from_settings({"model_size": "large"})
    with pytest.raises(SettingsError, match="unknown model_size 'large'"):
        EfficientADConfig(model_size="large")
    with pytest.raises(SettingsError, match="multiples of 32"):
        build_autoencoder(8, (100, 96))
    with pytest.raises(SettingsError, match="model_size nano was taken out after version 0.1.0, .*: retrain with"):
        EfficientAD.from_settings({"model_size": "nano"}, pretrained=False)


# The losses


def test_hard_feature_loss_by_hand():
    # Section 3.2. Differences 1 to 10; their 0.75 quantile is 7.75, which 8, 9 and 10 reach: mean 9.
    differences = torch.tensor([4.0, 9, 1, 10, 7, 2, 8, 3, 6, 5]).sqrt()
    assert hard_feature_loss(torch.zeros(10), differences, 0.75) == pytest.approx(9)
    rng = np.random.default_rng(0)
    teacher, student = (torch.from_numpy(rng.normal(size=(1, 16, 20, 20)).astype(np.float32)) for _ in range(2))
    squares = (teacher - student) ** 2
    expected = squares[squares >= torch.quantile(squares, 0.999)].mean()
    assert hard_feature_loss(teacher, student, 0.999) == pytest.approx(float(expected), rel=1e-6)


def constant(network: nn.Sequential, values) -> None:
    """Make a network give the same values everywhere."""
    nn.init.zeros_(network[-1].weight)
    with torch.no_grad():
        network[-1].bias.copy_(torch.as_tensor(values, dtype=torch.float32))


def test_total_loss_by_hand():
    # Algorithm 1 with a teacher that says 3, a student that says 1 and 0.5, and an autoencoder that says 2:
    # L_hard = (3 - 1)^2, penalty = 1^2, L_AE = (3 - 2)^2, L_STAE = (2 - 0.5)^2.
    network = StudentTeacher(build_pdn("small", CHANNELS), "small", (64, 64))
    constant(network.teacher, [3.0] * 384)
    constant(network.student, [1.0] * 384 + [0.5] * 384)
    constant(network.autoencoder, [2.0] * 384)
    image = torch.rand(1, 3, 64, 64) * 255
    assert total_loss(network, image, image, image, 0.999).item() == pytest.approx(4 + 1 + 1 + 2.25)


def test_penalty_is_taken_on_the_other_image():
    torch.manual_seed(0)
    network = StudentTeacher(build_pdn("small", CHANNELS), "small", (64, 64)).eval()
    image, *others = (torch.rand(1, 3, 64, 64) * 255 for _ in range(3))
    losses = [total_loss(network, image, image, other, 0.999).item() for other in others]
    with torch.inference_mode():
        mean, std = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
        penalties = [network.student((x / 255 - mean) / std)[:, :384].square().mean().item() for x in others]
    assert penalties[0] != penalties[1]
    assert losses[0] - losses[1] == pytest.approx(penalties[0] - penalties[1], rel=1e-2)


def test_augmentation_changes_one_property():
    image = torch.rand(1, 3, 32, 32) * 100 + 60
    seen = set()
    for seed in range(40):
        changed = augment(image, np.random.default_rng(seed))
        ratio = (changed / image).flatten()
        grey = [(x * torch.tensor([0.2989, 0.587, 0.114]).view(3, 1, 1)).sum(1) for x in (image, changed)]
        if ratio.std() < 1e-5:
            seen.add("brightness")
            assert 0.8 <= ratio.mean() <= 1.2
        elif torch.allclose(*grey, rtol=1e-3):
            seen.add("saturation")
        else:
            seen.add("contrast")
            assert changed.std() / image.std() == pytest.approx(1, abs=0.21)
    assert seen == {"brightness", "saturation", "contrast"}


# The maps


def test_quantile_normalisation_by_hand(monkeypatch):
    # Section 3.4: q_a = 0.9 and q_b = 0.995 of both maps become 0 and 0.1, and the maps are averaged.
    values = np.stack([np.arange(1001.0), 10 * np.arange(1001.0)])
    np.testing.assert_allclose(
        map_quantiles(np.random.default_rng(0).permuted(values, axis=1)), [[900, 995], [9000, 9950]]
    )
    network = StudentTeacher(build_pdn("small", CHANNELS), "small", (64, 64)).eval()
    network.quantiles.copy_(torch.tensor([[1.0, 3.0], [10.0, 20.0]]))
    maps = torch.empty(1, 2, 8, 8)
    maps[:, 0], maps[:, 1] = 3.0, 10.0
    maps[0, :, 2, 5] = torch.tensor([7.0, 30.0])
    monkeypatch.setattr(network, "maps", lambda image: maps)
    combined = network(torch.zeros(1, 64, 64, 3, dtype=torch.uint8))
    assert combined.shape == (1, 16, 16)
    assert combined[0, 0, 0].item() == pytest.approx((0.1 + 0) / 2)
    assert combined[0, 6, 9].item() == pytest.approx((0.3 + 0.2) / 2)
    with pytest.raises(SettingsError, match="the same everywhere"):
        map_quantiles(np.zeros((2, 100)))


def test_maps_are_mean_squares_over_channels():
    network = StudentTeacher(build_pdn("small", CHANNELS), "small", (64, 64)).eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        maps, teacher, student = network.maps(image), network.teacher(image), network.student(image)
        autoencoder = network.autoencoder(image)
    local = ((teacher - student[:, :384]) ** 2).sum(1) / 384
    overall = ((autoencoder - student[:, 384:]) ** 2).sum(1) / 384
    np.testing.assert_allclose(maps, torch.stack([local, overall], 1), rtol=1e-5)


# The detector


def test_teacher_is_normalised_on_the_good_images(teacher_file):
    images = noise(4, 64)
    model = tiny(teacher_file, steps=1).fit(images)
    order = np.random.default_rng(0).permutation(4)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    pixels = (np.stack([images[i] for i in order[1:]]) / 255 - mean) / std
    with torch.inference_mode():
        output = model.network.teacher(torch.from_numpy(pixels).permute(0, 3, 1, 2).float())
    np.testing.assert_allclose(output.mean(dim=(0, 2, 3)), 0, atol=1e-4)
    np.testing.assert_allclose(output.std(dim=(0, 2, 3), correction=0), 1, atol=1e-3)


class Stopped(Exception):
    pass


def test_training_is_seeded_and_goes_on_where_it_stopped(teacher_file, tmp_path):
    images = noise(5, 64)
    whole = tiny(teacher_file).fit(images).network.state_dict()

    def stop(stage, done, total):
        if stage == "train" and done == 3:
            raise Stopped

    facts = {"detector": "efficient_ad"}
    with pytest.raises(Stopped):
        tiny(teacher_file).fit(images, progress=stop, checkpoint=Checkpoint(tmp_path / "c", facts, every_s=0))
    stages = []
    resumed = tiny(teacher_file).fit(
        images,
        progress=lambda stage, done, total: stages.append((stage, done)),
        checkpoint=Checkpoint(tmp_path / "c", facts, every_s=0),
    )
    assert ("train", 3) in stages and ("train", 2) not in stages
    for name, value in resumed.network.state_dict().items():
        assert torch.equal(value, whole[name]), name
    other = tiny(teacher_file, seed=1).fit(images).network.state_dict()
    assert not torch.equal(other["student.0.weight"], whole["student.0.weight"])


def test_penalty_is_taken_on_photographs_of_a_folder(teacher_file, photographs):
    images = noise(3, 64)
    folder = {"penalty_images": str(photographs[0].parent)}
    on_textures, on_photographs = (tiny(teacher_file, **more).fit(images).network for more in ({}, folder))
    assert not torch.equal(on_textures.student[0].weight, on_photographs.student[0].weight)
    with pytest.raises(ImageError, match="no such folder"):
        tiny(teacher_file, penalty_images=str(photographs[0].parent / "absent")).fit(images)


def imagenet(folder, count=3, *, damaged=0):
    """Photographs in the layout of ImageNet: a folder for each class, JPEG in capitals; the damaged ones end early."""
    for number in range(count + damaged):
        path = folder / f"n{number % 2:08d}" / f"n{number % 2:08d}_{number}.JPEG"
        write_image(path, draw_texture(np.random.default_rng(number), 96)[:, : 96 - 8 * number])
        if number >= count:
            path.write_bytes(path.read_bytes()[:200])
    (folder / "n00000000" / "synsets.txt").write_text("no image")
    return folder


def test_penalty_takes_the_layout_of_imagenet_and_leaves_out_what_is_damaged(teacher_file, tmp_path, caplog):
    folder = imagenet(tmp_path / "train", damaged=2)
    assert len(find_photographs(folder)) == 5
    tiny(teacher_file, penalty_images=str(folder), steps=12).fit(noise(3, 64))
    left_out = [record.message for record in caplog.records if record.message.startswith("left out")]
    assert len(left_out) == len(set(left_out)) == 2  # once each, though they are drawn more often
    assert all(".JPEG: " in message and "copy it again" in message for message in left_out)


def test_a_folder_of_damaged_photographs_is_given_up(tmp_path):
    images = PretrainingImages(find_photographs(imagenet(tmp_path, 0, damaged=3)))
    with pytest.raises(ImageError, match="20 photographs in a row cannot be read, the last: .*JPEG"):
        images.draw(np.random.default_rng(0), 64, grey_rate=0)


def test_penalty_images_of_the_paper_are_the_middle_of_whole_ones(tmp_path):
    # Algorithm 1: resized to twice the size without regard to proportions, of which the middle is taken.
    photograph = cv2.GaussianBlur(draw_texture(np.random.default_rng(1), 320)[:, :200], (0, 0), 3)
    write_image(tmp_path / "0.png", photograph[..., ::-1])
    images = PretrainingImages(find_photographs(tmp_path))
    drawn = [draw_other(images, np.random.default_rng(seed), (64, 64)) for seed in range(40)]
    middle = cv2.resize(photograph, (128, 128), interpolation=cv2.INTER_AREA)[32:96, 32:96].astype(np.int16)
    grey = [bool((image[..., 0] == image[..., 2]).all()) for image in drawn]
    assert 4 <= sum(grey) <= 22  # of 30 %
    for image in (image for image, is_grey in zip(drawn, grey, strict=True) if not is_grey):
        assert np.abs(image.astype(np.int16) - middle).mean() < 2


def test_images_drawn_by_threads_give_the_same_model(teacher_file, monkeypatch):
    images = noise(5, 64)
    alone = tiny(teacher_file).fit(images).network.state_dict()
    monkeypatch.setattr(
        "edgead.workstation.methods.efficient_ad.detector.Prefetcher",
        lambda make, stop, threads: Prefetcher(make, stop, threads=2),
    )
    ahead = tiny(teacher_file).fit(images).network.state_dict()
    assert all(torch.equal(alone[name], ahead[name]) for name in alone)


def test_learning_rate_falls_to_a_tenth(teacher_file, monkeypatch):
    rates = []
    adam_step = torch.optim.Adam.step
    monkeypatch.setattr(
        torch.optim.Adam, "step", lambda self: (rates.append(self.param_groups[0]["lr"]), adam_step(self))[1]
    )
    # The rate, not the loss, is what counts: one that costs nothing.
    monkeypatch.setattr(detector, "total_loss", lambda network, *_: network.student[0].bias.sum())
    tiny(teacher_file, steps=20).fit(noise(3, 64))
    np.testing.assert_allclose(rates, [1e-4] * 19 + [1e-5])


def test_a_stain_on_a_good_image_stands_out(teacher_file):
    images = [np.full((64, 64, 3), 120, np.uint8) + image // 8 for image in noise(6, 64)]
    network = tiny(teacher_file, steps=30, learning_rate=1e-3).fit(images).network
    good = torch.from_numpy(np.stack(images[:2]))
    stained = good.clone()
    stained[:, 20:40, 20:40] = torch.from_numpy(noise(1, 20, seed=3)[0])
    with torch.inference_mode():
        assert (network(stained).amax(dim=(1, 2)) > 2 * network(good).amax(dim=(1, 2))).all()


def test_bfloat16_is_for_the_products_alone(teacher_file):
    images = noise(4, 64)
    exact, rounded = (tiny(teacher_file, bfloat16=wanted).fit(images).network.state_dict() for wanted in (False, True))
    assert {value.dtype for value in rounded.values()} == {torch.float32}
    weight = "student.0.weight"
    assert not torch.equal(exact[weight], rounded[weight])
    assert torch.linalg.norm(exact[weight] - rounded[weight]) < 0.05 * torch.linalg.norm(exact[weight])


@pytest.mark.slow
def test_exported_graph(teacher_file, tmp_path):
    import onnxruntime
    from edgead.export.graph import export_onnx

    model = tiny(teacher_file).fit(noise(4, 64))
    manifest = Manifest.draft(model.name, model.preprocessing, model.head)
    export_onnx(model.network, tmp_path / "model.onnx", manifest)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert [output.name for output in session.get_outputs()] == ["patch_scores"]
    batch = np.stack(noise(3, 64, seed=9))
    (scores,) = session.run(None, {"image": batch})
    assert scores.shape == (3, 16, 16)
    with torch.inference_mode():
        expected = model.network(torch.from_numpy(batch)).numpy()
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert model.head.sigma_px == 0 and model.head.kind == "map"


def test_settings_and_presets(teacher_file):
    assert set(EfficientAD.presets) == {"default", "fine", "paper", "paper_medium"}
    for preset, size in (("paper", "small"), ("paper_medium", "medium")):
        published = EfficientADConfig(**EfficientAD.presets[preset])
        assert (published.model_size, published.steps, published.learning_rate) == (size, 70_000, 1e-4)
        assert (published.weight_decay, published.image_size, published.hard_quantile) == (1e-5, (256, 256), 0.999)
        assert published.padding is False
    assert [rate_factor(70_000, number) for number in (0, 66_499, 66_500, 69_999)] == [1, 1, 0.1, 0.1]
    for preset, size in (("paper", "small"), ("paper_medium", "medium")):
        purpose = EfficientAD.preset_purposes[preset]
        assert f"teacher_{size}.pth" in purpose and "nelson1425/EfficientAd" in purpose and "anomalib" in purpose
    for settings in EfficientAD.presets.values():
        EfficientAD.variant(settings).config_class(**settings)
    model = tiny(teacher_file)
    assert model.head == MapHead(window=1, top_patches=1, sigma_px=0)  # efficientad.py:279 and 293, the maximum
    again = EfficientAD.from_settings(model.settings(), pretrained=False)
    again.network.load_state_dict(model.network.state_dict())
    with pytest.raises(SettingsError, match="at least two good images"):
        model.fit(noise(1, 64))


def test_models_of_earlier_versions_are_rebuilt_without_the_settings_that_went():
    gone = {"penalty_crops": True, "texture_share": 0.5, "window": 3, "top_patches": 2, "sigma_px": 4.0}
    for size, kept in (("small", {"steps"}), ("lite", {"steps", *gone})):
        training = {"settings": {"model_size": size, "steps": 9, **gone}}
        artifact = SimpleNamespace(manifest=SimpleNamespace(training=training))
        settings = load._settings(artifact, EfficientAD)
        assert settings.keys() == {"model_size", *kept}
    assert EfficientAD.from_settings({"model_size": "small", "steps": 9}, pretrained=False).config.steps == 9


# Teachers


def test_teachers_are_refused_with_what_to_do(teacher_file, tmp_path):
    with pytest.raises(SettingsError, match="no teacher comes with edgead.*Give --weights"):
        load_teacher("medium")
    with pytest.raises(SettingsError, match="no such file"):
        load_teacher("small", file=tmp_path / "absent.safetensors")
    with pytest.raises(SettingsError, match="is a teacher of model_size small, not medium"):
        load_teacher("medium", file=teacher_file)
    (tmp_path / "damaged.safetensors").write_bytes(b"nothing")
    with pytest.raises(SettingsError, match="is no teacher: neither safetensors nor a state dict"):
        load_teacher("small", file=tmp_path / "damaged.safetensors")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Three parts of one image, so that what is held out resembles what is learned from."""
    folder = tmp_path_factory.mktemp("photographs")
    whole = draw_texture(np.random.default_rng(4), 384)
    for number in range(3):
        write_image(folder / "below" / f"{number}.png", whole[:, 128 * number : 128 * (number + 1)])
    return find_photographs(folder)


def test_images_are_seeded(photographs, tmp_path):
    assert np.array_equal(*(draw_texture(np.random.default_rng(5), 96) for _ in range(2)))
    assert not np.array_equal(draw_texture(np.random.default_rng(5), 96), draw_texture(np.random.default_rng(6), 96))
    for paths in (photographs, []):
        images = PretrainingImages(paths)
        drawn = [images.draw(np.random.default_rng(i), 48, grey_rate=0.5) for i in range(40)]
        assert all(image.shape == (48, 48, 3) and image.dtype == np.uint8 for image in drawn)
    grey = sum(bool((image[..., 0] == image[..., 2]).all()) for image in drawn)
    assert 10 < grey < 35
    with pytest.raises(ImageError, match="no images found"):
        find_photographs(tmp_path)
