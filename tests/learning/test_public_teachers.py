"""Teachers of public projects give what their own code gives on identical random weights; other files are refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")

from random_networks import draw_image, draw_weights  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from torch import nn  # noqa: E402

from edgead.errors import SettingsError  # noqa: E402
from edgead.workstation.methods.efficient_ad.detector import EfficientAD  # noqa: E402
from edgead.workstation.methods.efficient_ad.student_teacher import CHANNELS, build_pdn, pixel_moments  # noqa: E402
from edgead.workstation.methods.efficient_ad.teacher import LAYOUTS, load_teacher, read_teacher  # noqa: E402

PUBLIC = json.loads((Path(__file__).parents[1] / "fixtures" / "efficient_ad" / "public.json").read_text())
SIZES = ("small", "medium")


def public_state(project: str, size: str, *, seed: int = 1) -> dict[str, torch.Tensor]:
    """The weights that the fixture's network had, by the names of the project."""
    shapes = [tuple(value.shape) for value in build_pdn(size, CHANNELS).state_dict().values()]
    drawn = draw_weights(zip(PUBLIC[project][size]["names"], shapes, strict=True), seed)
    return {name: torch.from_numpy(value) for name, value in drawn.items()}


def output_of(teacher: nn.Module, image: np.ndarray) -> torch.Tensor:
    mean, std = pixel_moments()
    with torch.inference_mode():
        return teacher((torch.from_numpy(image).permute(2, 0, 1)[None].float() - mean) / std)[0, ::64].flatten()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("project", LAYOUTS)
@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_a_public_teacher_gives_what_its_own_code_gives(project, size, form, tmp_path):
    file, state = tmp_path / f"teacher.{form}", public_state(project, size)
    if form == "safetensors":
        save_file(state, file)
    else:
        torch.save(state, file, _use_new_zipfile_serialization=form == "zip")
    teacher = load_teacher(size, file=file)
    expected = PUBLIC[project][size]["output"]
    np.testing.assert_allclose(output_of(teacher, draw_image(10, 64)), expected, rtol=1e-4, atol=1e-5)
    assert not any(value.requires_grad for value in teacher.parameters()) and not teacher.training


@pytest.mark.parametrize("size", SIZES)
def test_both_projects_normalise_alike(size):
    one, other = (PUBLIC[project][size]["output"] for project in LAYOUTS)
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def not_normalised(image: np.ndarray) -> np.ndarray:
    """Pixels that the moments of ImageNet make pixels in 0..1 of."""
    return 255 * (image / 255 * [0.229, 0.224, 0.225] + [0.485, 0.456, 0.406]).astype(np.float32)


FLIPS = {
    "BGR": lambda image: image[..., ::-1].copy(),
    "pixels in 0..1": lambda image: image / np.float32(255),
    "not normalised": not_normalised,
    "mirrored": lambda image: image[:, ::-1].copy(),
}


@pytest.mark.parametrize("flip", FLIPS)
@pytest.mark.parametrize("project", LAYOUTS)
def test_a_teacher_that_is_fed_otherwise_gives_something_else(project, flip, tmp_path):
    torch.save(public_state(project, "small"), tmp_path / "teacher.pth")
    teacher, image = load_teacher("small", file=tmp_path / "teacher.pth"), draw_image(10, 64)
    expected = PUBLIC[project]["small"]["output"]
    assert np.allclose(output_of(teacher, image), expected, rtol=1e-4, atol=1e-5)
    assert not np.allclose(output_of(teacher, FLIPS[flip](image)), expected, rtol=0.1, atol=0.1)


def test_a_teacher_with_padding_gives_another_grid(tmp_path):
    torch.save(public_state("anomalib", "small"), tmp_path / "teacher.pth")
    padded = load_teacher("small", file=tmp_path / "teacher.pth", padding=True)
    output = output_of(padded, draw_image(10, 64)).view(6, 16, 16)
    expected = np.reshape(PUBLIC["anomalib"]["small"]["output"], (6, 8, 8))
    np.testing.assert_allclose(output[:, 4:12, 4:12], expected, rtol=1e-4, atol=1e-5)
    assert not np.allclose(output[:, ::2, ::2], expected, rtol=0.1, atol=0.1)


def test_weights_of_half_precision_are_read(tmp_path):
    state = public_state("anomalib", "small")
    torch.save({name: value.half() for name, value in state.items()}, tmp_path / "t.pth")
    read = read_teacher(tmp_path / "t.pth").tensors
    assert {value.dtype for value in read.values()} == {torch.float32}
    np.testing.assert_allclose(read["3.weight"], state["conv2.weight"], rtol=1e-3, atol=1e-6)


def test_a_detector_learns_from_a_public_teacher(tmp_path):
    torch.save(public_state("anomalib", "small"), tmp_path / "teacher.pth")
    settings = {**EfficientAD.presets["paper"], "image_size": (64, 64), "steps": 1}
    model = EfficientAD.from_settings(settings, weights=tmp_path / "teacher.pth")
    given = model.network.teacher[:-1].state_dict()
    assert torch.equal(given["3.weight"], public_state("anomalib", "small")["conv2.weight"])
    trained = model.fit([draw_image(number, 64) for number in range(3)])
    assert trained.settings["model_size"] == "small"
    assert all(torch.equal(value, given[name]) for name, value in model.network.teacher[:-1].state_dict().items())
    with torch.inference_mode():
        assert trained.network(torch.from_numpy(draw_image(3, 64))[None]).isfinite().all()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("project", LAYOUTS)
def test_another_size_is_refused_with_the_one_that_was_found(project, size, tmp_path):
    torch.save(public_state(project, size), tmp_path / "teacher.pth")
    other = "medium" if size == "small" else "small"
    with pytest.raises(SettingsError, match=f"is a teacher of model_size {size}, not {other}: .*model_size={size}"):
        load_teacher(other, file=tmp_path / "teacher.pth")


def wide(project: str) -> dict[str, torch.Tensor]:
    """A student: twice as many channels in the last layer."""
    state = public_state(project, "small")
    last = list(state)[-2:]
    return state | {name: torch.cat([state[name]] * 2) for name in last}


REFUSED = {
    "a student": (
        lambda: wide("nelson1425/EfficientAd"),
        "this is a student: its last layer has 768 channels where a teacher has 384. Give the teacher, teacher_small",
    ),
    "a student of anomalib": (lambda: wide("anomalib"), "this is a student: its last layer has 768 channels"),
    "other widths": (
        lambda: public_state("anomalib", "small") | {"conv2.weight": torch.zeros(64, 128, 4, 4)},
        r"conv2.weight has the shape \(64, 128, 4, 4\), that of a teacher of model_size small is \(256, 128, 4, 4\)",
    ),
    "values that are not finite": (
        lambda: public_state("anomalib", "small") | {"conv1.bias": torch.full((128,), torch.nan)},
        "conv1.bias holds values that are not finite",
    ),
    "a checkpoint of a training": (
        lambda: {"epoch": 3, "state_dict": public_state("anomalib", "small")},
        "its 2 entries are epoch, state_dict. Give teacher_small.pth .* nelson1425/EfficientAd",
    ),
    "another network": (lambda: nn.Linear(2, 2).state_dict(), "is no teacher .* its 2 entries are bias, weight"),
    "nothing": (dict, "its 0 entries are none"),
    "a list": (lambda: [torch.zeros(1)], "holds a list instead of a state dict"),
    "no tensors": (
        lambda: dict.fromkeys(PUBLIC["anomalib"]["small"]["names"], 1.5),
        "conv1.weight is a float, not a tensor",
    ),
    "a whole module": (lambda: nn.Linear(2, 2), "holds Python objects, which edgead does not unpickle.*_state.pth"),
}


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_teacher_is_refused(case, form, tmp_path):
    make, message = REFUSED[case]
    torch.save(make(), tmp_path / "other.pth", _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(SettingsError, match=message):
        load_teacher("small", file=tmp_path / "other.pth")


def test_nothing_is_executed(tmp_path):
    class Harmful:
        def __reduce__(self):
            return Path.touch, (tmp_path / "executed",)

    torch.save({"0.weight": Harmful()}, tmp_path / "harmful.pth")
    with pytest.raises(SettingsError, match="does not unpickle"):
        load_teacher("small", file=tmp_path / "harmful.pth")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("keep", [0, 3, 40, 5000, -30])
def test_damaged_files_are_refused(keep, tmp_path):
    whole, file = tmp_path / "whole.pth", tmp_path / "part.pth"
    torch.save(public_state("anomalib", "small"), whole)
    file.write_bytes(whole.read_bytes()[:keep])
    with pytest.raises(SettingsError, match="part.pth is"):
        load_teacher("small", file=file)


def test_a_missing_teacher_is_named_with_where_to_find_one():
    with pytest.raises(SettingsError, match=r"teacher_small.pth in .*nelson1425/EfficientAd.*anomalib"):
        load_teacher("small")
