"""LSFA on pairs of colours and heights: its network, what it learns, and from the command line to verdicts."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")

from command_line import run_here  # noqa: E402

from benchmarks.plates import MM_PER_COUNT, render_plate, write_plates  # noqa: E402
from edgead import Detector  # noqa: E402
from edgead.adapt.methods.method import Course  # noqa: E402
from edgead.artifact.inputs import Relief  # noqa: E402
from edgead.errors import SettingsError  # noqa: E402
from edgead.images.pairs import joined  # noqa: E402
from edgead_height.lsfa import detector  # noqa: E402
from edgead_height.lsfa.detector import Lsfa, turn_blocks  # noqa: E402
from edgead_height.lsfa.losses import Bank, Banks, Features, adaptation_loss  # noqa: E402
from edgead_height.lsfa.network import patches_of  # noqa: E402

SMALL = {"image_size": (64, 64), "steps": 4, "bank_patches": 100, "memory_bank_size": 50}


def images(count: int = 6) -> list[np.ndarray]:
    """Stripes of colour, and a relief that lies under them."""
    rng = np.random.default_rng(0)
    stripes = 128 + 60 * np.sin(np.arange(64) / 3)[None, :, None]
    return [(stripes + rng.normal(0, 5, (64, 64, 6))).astype(np.float32) for _ in range(count)]


def build(**settings):
    method = Lsfa.from_settings({**SMALL, **settings}, pretrained=False, channels=6)
    relief = Relief(mm_per_count=MM_PER_COUNT, height_mm=1, slope_mm=1, sigma_px=3)
    method.prepared(method.preprocessing.model_copy(update={"colour": "rgb_relief", "relief": relief}))
    return method


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"steps": 0}, "at least 1"), ({"heads": 9}, "cannot be divided")],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(SettingsError, match=message):
        build(**settings)


def test_each_modality_is_a_layer_of_its_own():
    method = build()
    pixels = torch.from_numpy(np.stack(images(2))).permute(0, 3, 1, 2)
    other = pixels.clone()
    other[:, 3:] = 128
    with torch.no_grad():
        (colour, height), (same, changed) = method.adapted(pixels), method.adapted(other)
    assert colour.shape == height.shape == (2, method.adapted.width, 8, 8)
    assert torch.equal(colour, same) and not torch.allclose(height, changed)


def test_what_ships_adapts_the_features():
    method = build()
    pixels = torch.from_numpy(np.stack(images(2))).permute(0, 3, 1, 2)
    blocks = method.adapted.adaptors.colour, method.adapted.adaptors.height
    with torch.no_grad():
        scaled = method.adapted.scaled(method.adapted.raw(pixels))
        for which, (found, block) in enumerate(zip(method.adapted(pixels), blocks, strict=True)):
            torch.testing.assert_close(patches_of(found), block(patches_of(scaled[:, which])))
            assert not torch.allclose(found, scaled[:, which], rtol=0.01, atol=0.01)


def seen_features(monkeypatch, **settings) -> list[Features]:
    """Pairs of features that each step of a training compares."""
    seen = []

    def noted(adaptors, features, banks):
        seen.append(features)
        assert [bank.size for bank in banks] == [7, 7, 100, 100]
        return next(adaptors.parameters()).sum()

    monkeypatch.setattr(detector, "adaptation_loss", noted)
    build(bank_patches=7, **settings)._adapt(images(2), Course())
    return seen


def test_the_turned_view_lies_as_the_upright_one(monkeypatch):
    """Each square stays at its place: a view of which nothing is turned has the features of the image itself."""
    monkeypatch.setattr(detector, "turn_blocks", lambda image, rng: image)
    (features,) = seen_features(monkeypatch, steps=1)
    torch.testing.assert_close(features.turned, features.colour)


def test_each_step_turns_squares_by_new_numbers(monkeypatch):
    first, second = seen_features(monkeypatch, steps=2)
    assert not torch.allclose(first.turned, first.colour, atol=0.1)
    order = [int((second.colour == one).flatten(1).all(dim=1).nonzero()) for one in first.colour]
    assert not torch.allclose(first.turned, second.turned[order], atol=0.1)


def test_squares_are_turned_as_the_authors_turn_them():
    """`Adaptation/data/mvtec3d.py:362` to 366, from the same numbers; what is left of a side stays as it is."""
    image = np.random.default_rng(0).random((18, 15, 6)).astype(np.float32)
    found = turn_blocks(image, np.random.default_rng(3))
    expected, quarters = (
        torch.from_numpy(image.copy()).permute(2, 0, 1),
        np.random.default_rng(3).integers(4, size=(4, 3)),
    )
    for row, column in np.ndindex(4, 3):
        square = expected[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        square[:] = torch.rot90(square, int(quarters[row, column]), [1, 2])
    assert len(np.unique(quarters)) == 4 and found.dtype == image.dtype
    np.testing.assert_array_equal(found, expected.permute(1, 2, 0))


def test_it_learns_with_the_settings_that_it_names(monkeypatch):
    made = []

    def noted(parameters, **options):
        made.append(options)
        return torch.optim.SGD(parameters, lr=1e-3)

    monkeypatch.setattr(torch.optim, "AdamW", noted)
    build(steps=1)._adapt(images(), Course())
    assert made == [{"lr": 3e-4, "betas": (0.9, 0.95)}]


@pytest.mark.slow
def test_what_is_learnt_lowers_the_loss():
    """On the same batch: each place is more like its own, and nearer to the bank."""
    method, learning = build(steps=60, learning_rate=1e-3), images()
    torch.manual_seed(0)
    before = {name: value.clone() for name, value in method.adapted.adaptors.state_dict().items()}
    method.learn(learning, Course())
    scaled = method.adapted.scaled(method._raw(learning, torch.device("cpu")))
    colour, height = (patches_of(scaled[:, which]) for which in (0, 1))
    losses = []
    for state in (method.adapted.adaptors.state_dict(), before):
        method.adapted.adaptors.load_state_dict(state)
        with torch.no_grad():
            banks = Banks(*(Bank(9999) for _ in range(4)))
            losses.append(float(adaptation_loss(method.adapted.adaptors, Features(colour, height, colour), banks)))
    assert losses[0] < losses[1] - 0.05
    assert method.arrays["memory_bank"].shape == (50, 2 * method.adapted.width)


def test_features_of_good_parts_have_one_scale():
    method, learning = build(), images()
    torch.manual_seed(0)
    for weights in method.adapted.backbone.parameters():
        if weights.ndim == 4:  # else features that are all but constant
            torch.nn.init.kaiming_normal_(weights)
    method.learn(learning, Course())
    scaled = method.adapted.scaled(method._raw(learning, torch.device("cpu")))
    lengths = scaled.square().sum(dim=2).mean(dim=(0, 2, 3))
    assert lengths.tolist() == pytest.approx([25, 25], rel=0.01)


@pytest.mark.slow
def test_from_pairs_to_verdicts(tmp_path):
    pytest.importorskip("onnx", reason="exporting needs the workstation's packages")
    plates, model = tmp_path / "plates", tmp_path / "model"
    write_plates(plates, good=24, tested=2, dents_mm=(0.5,), stains=(0.5,), size=(96, 96))
    pairs = plates / "pairs"
    arguments = ["--input", "rgb_relief", "--mm-per-count", MM_PER_COUNT, "--detector", "lsfa", "--image-size", 96]
    arguments += ["--set", "steps=20", "--set", "memory_bank_size=300", "--set", "bank_patches=400"]
    ended = run_here("train", pairs, "-o", model, *arguments, "--false-reject-rate", 0.2)
    assert ended.returncode == 0, ended.stderr
    ended = run_here("verify", model)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    with Detector.load(model) as detector:
        scores = {}
        for name, defect in {"good": {}, "dent": {"dent_mm": 0.5}, "stain": {"stain": 0.5}}.items():
            plate = render_plate(np.random.default_rng(4), size=(96, 96), **defect)
            scores[name] = detector.predict(joined(plate.image, plate.heights)).image_score
    assert scores["good"] < min(scores["dent"], scores["stain"])
