"""MetaUAS from a user's checkpoint: what is refused, and the way from one golden part to a verified fp16 graph."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")
pytest.importorskip("timm", reason="the encoder is timm's")

from command_line import run_here  # noqa: E402
from metauas_authors import draw, images  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from edgead.artifact.files import file_sha256  # noqa: E402
from edgead.artifact.folder import Artifact  # noqa: E402
from edgead.errors import SettingsError  # noqa: E402
from edgead.images.files import list_images  # noqa: E402
from edgead.workstation.methods.load import load_network  # noqa: E402
from edgead_foundation.metauas.detector import MetaUas, MetaUasConfig  # noqa: E402
from edgead_foundation.metauas.files import authors_name, is_weight, load_checkpoint  # noqa: E402
from edgead_foundation.metauas.networks import MetaUasNetwork  # noqa: E402

UNUSED = {"encoder._conv_head.weight": (1792, 448, 1, 1), "encoder._bn1.bias": (1792,)}


@pytest.fixture(scope="module")
def network() -> MetaUasNetwork:
    """A network without values: files are refused by names, shapes and what they hold."""
    with torch.device("meta"):
        return MetaUasNetwork((64, 64))


@pytest.fixture(scope="module")
def shapes(network) -> dict[str, tuple[int, ...]]:
    """Shapes of what a checkpoint holds, by its names."""
    entries = network.state_dict().items()
    return {authors_name(name): tuple(value.shape) for name, value in entries if is_weight(name)} | UNUSED


def flat(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Tensors of one value each, which a file of torch.save holds once."""
    return {name: torch.ones(()).expand(shape) for name, shape in shapes.items()}


class Evil:
    def __reduce__(self):
        return print, ("run",)


MASK = "mask_head.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda state: {**state, "x": Evil()},
            "Python objects, which edgead does not unpickle.*metauas-256.ckpt",
        ),
        (lambda state: [*state.values()], "holds a list instead of tensors by name"),
        (lambda state: {"state_dict": state}, "holds a dict instead of tensors by name"),
        (
            lambda state: {f"model.{name}": value for name, value in state.items()},
            r"no checkpoint of MetaUAS: of its 816 entries 816 are unknown \(model.alignment.*814 are missing",
        ),
        (
            lambda state: {name: value for name, value in state.items() if name != MASK},
            r"entries 0 are unknown, and 1 are missing \(mask_head.weight\)",
        ),
        (lambda state: {**state, MASK: torch.ones(1, 16, 1, 1)}, r"mask_head.weight has the shape \(1, 16, 1, 1\)"),
        (
            lambda state: {**state, MASK: torch.ones(1, 48, 1, 1) / 0},
            r"mask_head\.weight holds values that are not",
        ),
    ],
)
def test_a_file_of_something_else_is_refused(network, shapes, tmp_path, change, message):
    torch.save(change(flat(shapes)), tmp_path / "x.ckpt")
    with pytest.raises(SettingsError, match=message):
        load_checkpoint(network, tmp_path / "x.ckpt")


def test_a_damaged_file_is_refused(network, tmp_path):
    for name, message in (("x.ckpt", "is damaged, or no file of torch.save"), ("x.safetensors", "or no safetensors")):
        (tmp_path / name).write_bytes(b"PK\x03\x04 and no more")
        with pytest.raises(SettingsError, match=message):
            load_checkpoint(network, tmp_path / name)


def test_it_needs_weights_and_whole_strides():
    with pytest.raises(SettingsError, match="metauas comes without weights: give --weights metauas-256.ckpt"):
        MetaUas.from_settings({})
    with pytest.raises(SettingsError, match="metauas needs multiples of 32"):
        MetaUas.from_settings({"image_size": (256, 250)}, pretrained=False)
    for settings in MetaUas.presets.values():
        MetaUasConfig(**settings)


@pytest.mark.slow
def test_one_part_is_its_prompt():
    method = MetaUas.from_settings({"image_size": (32, 64)}, pretrained=False)
    image = np.random.default_rng(0).integers(0, 255, (32, 64, 3), dtype=np.uint8)
    with pytest.raises(SettingsError, match="compares with one golden part, found 2 images"):
        method.fit([image, image])
    trained = method.fit([image])
    assert {name: x.shape for name, x in trained.graph_arrays.items()} == {
        "prompt_stride8": (1, 56, 4, 8),
        "prompt_stride16": (1, 160, 2, 4),
        "prompt_stride32": (1, 448, 1, 2),
    }
    assert all(x.std() > 0 for x in trained.graph_arrays.values())


@pytest.fixture
def drawn_data(tmp_path) -> Path:
    """Images that the drawn weights were drawn for, in MVTec layout.

    On others, such as those of the built-in line, they make a network whose map turns around by weights rounded to half
    floats alone, computed in float64, or by a twentieth of a grey level: it says nothing of a graph.
    """
    for kind, count in (("train/good", 40), ("test/good", 2), ("test/other", 2)):
        folder = tmp_path / "data" / kind
        folder.mkdir(parents=True)
        for number, image in enumerate(images(kind, count)):
            cv2.imwrite(str(folder / f"{number:03d}.png"), image)
    return tmp_path / "data"


@pytest.mark.slow
def test_from_one_part_to_half_floats(shapes, drawn_data, tmp_path):
    state = {name: draw(name, shape) for name, shape in shapes.items()}
    state = {name: x if x.dtype == torch.int64 else x.float() for name, x in state.items()}
    weights, model, folder = tmp_path / "w.ckpt", tmp_path / "model", tmp_path / "golden"
    torch.save(state, weights)
    folder.mkdir()
    good = list_images(drawn_data / "train" / "good")
    shutil.copy(good[0], folder)
    arguments = ["--detector", "metauas", "--weights", weights, "--image-size", "64,96"]
    ended = run_here("train", folder, "-o", model, *arguments)
    assert ended.returncode == 0, ended.stderr
    assert "none yet: every image is for review" in ended.stdout
    training = Artifact.load(model).manifest.training
    assert (training["weights_licence"], training["weights_sha256"]) == ("MIT", file_sha256(weights))
    save_file(state, tmp_path / "w.safetensors")
    ours, theirs = load_network(Artifact.load(model)), MetaUasNetwork((64, 96))
    load_checkpoint(theirs, tmp_path / "w.safetensors")
    assert torch.equal(ours.segmenter.last.weight, theirs.segmenter.last.weight)
    predicted = json.loads(run_here("predict", model, good[1], "--json").stdout)
    assert predicted["images"][0]["decision"] == "review"
    assert run_here("calibrate", model, *good[2:22], "--group", "none").returncode == 0
    ended = run_here("export", model, drawn_data, "--precision", "fp16")
    assert ended.returncode == 0, ended.stderr
    ended = run_here("verify", model, "--all")
    assert ended.returncode == 0, ended.stdout + ended.stderr
