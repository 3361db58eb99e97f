"""Detectors from words: files and settings; exported, verified and calibrated; prompts learnt from labelled sets."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")
pytest.importorskip("timm", reason="foundation backbones are timm's")
pytest.importorskip("open_clip", reason="text towers are OpenCLIP's")

import words_authors as authors  # noqa: E402
from command_line import run_here  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from words import DINO, OPENCLIP, REAL, build, clip_state, small_towers  # noqa: E402, F401

from edgead.adapt.methods.method import Course  # noqa: E402
from edgead.adapt.methods.registry import METHODS  # noqa: E402
from edgead.artifact.folder import Artifact  # noqa: E402
from edgead.dataset.errors import DatasetError  # noqa: E402
from edgead.dataset.folders import find_test_images  # noqa: E402
from edgead.errors import SettingsError  # noqa: E402
from edgead.workstation.methods.load import load_network  # noqa: E402
from edgead_foundation.anomaly_clip.detector import AnomalyClip  # noqa: E402
from edgead_foundation.anomaly_clip.prompts import read_prompts  # noqa: E402
from edgead_foundation.anomaly_clip.training import LabelledSet, order_of  # noqa: E402
from edgead_foundation.backbones.files import convert, read_text_tower, read_tower  # noqa: E402


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return tmp_path_factory.mktemp("clip")


@pytest.fixture(scope="module")
def anomaly_clip(files):
    return build(files, "anomaly_clip")


def test_a_conversion_keeps_the_text_tower(anomaly_clip, files, tmp_path):
    name, source, out = REAL["anomaly_clip"], files / "anomaly_clip.pth", tmp_path / "clip.safetensors"
    facts = convert(source, out, name)
    texts = read_text_tower(source, name)
    assert facts["text_parameters"] == sum(value.numel() for value in texts.values()) > 49408 * authors.TEXT_WIDTH
    torch.testing.assert_close(read_text_tower(out, name), texts, rtol=0, atol=0)
    torch.testing.assert_close(read_tower(out, name), read_tower(source, name), rtol=0, atol=0)


def test_a_file_without_a_text_tower_is_refused(tmp_path):
    name, out = REAL["anomaly_clip"], tmp_path / "images.safetensors"
    alone = {key: value for key, value in clip_state("anomaly_clip").items() if key.startswith("visual.")}
    save_file(alone, tmp_path / "clip.safetensors")
    assert convert(tmp_path / "clip.safetensors", out, name)["text_parameters"] == 0
    with pytest.raises(SettingsError, match="no text tower for .*, it has the image tower alone: give the whole CLIP"):
        read_text_tower(out, name)


def test_texts_that_clip_cannot_read_are_refused(anomaly_clip):
    with pytest.raises(SettingsError, match="has 100 tokens, and CLIP reads 75: say it in fewer words"):
        anomaly_clip.text.tokenize(["part " * 100])


def test_texts_of_openclip_have_its_activation(files):
    """OpenCLIP was trained with GELU, OpenAI's CLIP with QuickGELU; their files look the same."""
    openai, openclip = (build(files, "anomaly_clip", backbone=name) for name in (REAL["anomaly_clip"], OPENCLIP))
    assert not torch.allclose(openai.network.texts, openclip.network.texts, atol=1e-5)
    for block in openai.text.network.transformer.resblocks:
        block.mlp.gelu = torch.nn.GELU()
    torch.testing.assert_close(openai.prompts(openai.text), openclip.network.texts, rtol=0, atol=1e-6)


FOUR = {"layers": ["block4"], "refined_blocks": 3}


@pytest.mark.parametrize(
    ("detector", "settings", "message"),
    [
        ("anomaly_clip", {"backbone": "dino_vits8"}, "'dino_vits8' has no text tower: choose one of clip_vitb32"),
        ("anomaly_clip", {}, "takes learnt prompts, --set prompts=epoch_15.pth, or learns them from labelled images"),
        ("anomaly_clip", {"prompts": "a", "auxiliary": ["b"]}, "give one of the two"),
        ("anomaly_clip", {"prompts": "a"}, "anomaly_clip needs a whole CLIP, clip_vitl14_336: give its file"),
        ("crane", {}, "crane takes learnt prompts, --set prompts=epoch_5.pth, or learns them from labelled images"),
        ("crane", {"mean_of": "maps"}, "mean_of 'maps': give shares or logits"),
        ("crane", {"map_weight": 0}, "give a positive number, such as 2"),
        ("crane", {"dino_weights": "a"}, "dino_weights are of Crane.: give dino too, such as dinov2_vitb14_reg"),
        ("crane", {"dino": "dino_vits8"}, "dino 'dino_vits8' is no DINOv2: choose one of dinov2_vits14"),
        ("crane", {"dino": DINO, "backbone": "clip_vitb16", **FOUR}, "patches of dinov2_vitb14_reg have 14 pixels"),
        ("crane", {"dino": DINO, "layers": ["block6"]}, "Crane. takes block7 and those after it"),
        ("crane", {"layers": []}, r"layers \[\] of clip_vitl14_336: choose from block1"),
        ("anomaly_clip", {"layers": ["block25"]}, r"layers \['block25'\] of clip_vitl14_336: choose from block1"),
        ("anomaly_clip", {"refined_blocks": 25}, "refined_blocks 25: give 1 to 24, the blocks of the tower"),
        ("anomaly_clip", {"deep_context": 13}, "deep_context 13: give 1 to 12, the tokens of the context"),
        ("anomaly_clip", {"temperature": 0}, "give a positive number, such as 0.07"),
        ("anomaly_clip", {"epochs": 0}, "epochs and batch_size must be at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(detector, settings, message):
    with pytest.raises(SettingsError, match=message):
        METHODS.find(detector).from_settings(settings)


def test_prompts_are_read_from_either_kind_of_file(tmp_path):
    drawn = authors.draw_prompts()
    torch.save({"prompt_learner": drawn}, tmp_path / "epoch_15.pth")
    save_file(drawn, tmp_path / "prompts.safetensors")
    first, second = (
        read_prompts(tmp_path / name, authors.TEXT_WIDTH) for name in ("epoch_15.pth", "prompts.safetensors")
    )
    torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)
    assert first.context.shape == (2, authors.CONTEXT, authors.TEXT_WIDTH) and len(first.deep) == authors.DEEP_BLOCKS
    with pytest.raises(SettingsError, match="holds no prompts of AnomalyCLIP for a text tower of 8 channels"):
        read_prompts(tmp_path / "epoch_15.pth", 8)


class Evil:
    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"prompt_learner": {"ctx_pos": Evil()}}, "holds Python objects, which edgead does not unpickle"),
        ({"prompt_learner": [1]}, "holds a dict without tensors by name: give learnt prompts"),
        ([1], "holds a list without tensors by name"),
        ({"other": torch.zeros(1)}, "holds no prompts of AnomalyCLIP .* its entries begin with other"),
        (None, "is damaged, or no file of torch.save|holds Python objects"),
    ],
)
def test_other_files_hold_no_prompts(content, message, tmp_path, capsys):
    file = tmp_path / "epoch_15.pth"
    if content is None:
        file.write_bytes(b"no prompts at all")
    else:
        torch.save(content, file)
    with pytest.raises(SettingsError, match=message):
        read_prompts(file, authors.TEXT_WIDTH)
    assert capsys.readouterr().out == ""


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(SettingsError, match="there is no file .*missing.pth: give learnt prompts"):
        read_prompts(tmp_path / "missing.pth", 8)
    (tmp_path / "p.safetensors").write_bytes(b"no")
    with pytest.raises(SettingsError, match="is damaged, or no safetensors"):
        read_prompts(tmp_path / "p.safetensors", 8)


def test_an_auxiliary_set_has_good_and_defective_images_with_masks(line_data, tmp_path):
    small = {"backbone": REAL["anomaly_clip"], "image_size": (32, 48), **FOUR}
    spec = AnomalyClip.from_settings(small, pretrained=False).preprocessing
    labelled = LabelledSet([line_data, line_data], spec)
    tests = find_test_images(line_data)
    assert len(labelled) == 2 * len(tests)
    flawed = next(number for number, test in enumerate(tests) if test.is_defective)
    good = next(number for number, test in enumerate(tests) if not test.is_defective)
    images, masks, labels = labelled.batch([good, flawed])
    assert images.shape == (2, 32, 48, 3) and images.dtype == torch.uint8 and labels.tolist() == [0, 1]
    assert masks.shape == (2, 32, 48) and masks[0].max() == 0 and set(masks[1].unique().tolist()) == {0.0, 1.0}
    (tmp_path / "test").symlink_to(line_data / "test")
    with pytest.raises(DatasetError, match="defective images have no mask, .*: prompts are learnt from masks"):
        LabelledSet([line_data, tmp_path], spec)


def test_every_epoch_has_every_image_once_in_an_order_of_its_own():
    epochs = [np.concatenate([order_of(10, 4, 3 * epoch + step, 5) for step in range(3)]) for epoch in range(2)]
    assert all(sorted(epoch.tolist()) == list(range(10)) for epoch in epochs)
    assert epochs[0].tolist() != epochs[1].tolist() and len(order_of(10, 4, 2, 5)) == 2


def settings_of(method) -> list[str]:
    """Options of the command line that give a method's settings."""
    return [
        option
        for name, value in method.settings().items()
        if value is not None
        for option in ("--set", f"{name}={json.dumps(value) if isinstance(value, list) else value}")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", REAL)
def test_a_detector_is_made_calibrated_exported_and_verified(name, files, line_data, tmp_path):
    pytest.importorskip("onnx", reason="exporting needs the workstation's packages")
    method, model = build(files, name), tmp_path / "model"
    one = tmp_path / "one"
    one.mkdir()
    (one / "part.png").symlink_to(sorted((line_data / "test" / "good").iterdir())[0])
    made = ["train", one, "-o", model, "--detector", method.name, "--weights", files / f"{name}.pth"]
    made += settings_of(method)
    ended = run_here(*made, "--json")
    assert ended.returncode == 0, ended.stderr
    artifact = Artifact.load(model)
    manifest = artifact.manifest
    assert manifest.learns_from == "nothing" and manifest.training["training_images"] == 0
    assert manifest.training["weights_licence"] == "MIT" and manifest.training["weights_sha256"]
    assert manifest.training["prompts_sha256"]
    assert ("dino_sha256" in manifest.training) == (name == "crane_plus")
    torch.testing.assert_close(load_network(artifact).texts, method.network.texts, rtol=0, atol=0)
    predicted = json.loads(run_here("predict", model, line_data / "test" / "good", "--json").stdout)
    assert {verdict["decision"] for verdict in predicted["images"]} == {"review"}
    assert "no thresholds yet" in predicted["warnings"][-1]
    # What made the golden image may be calibrated on: nothing was learnt of it.
    ended = run_here("calibrate", model, line_data / "test" / "good", "--false-reject-rate", 0.2)
    assert ended.returncode == 0, ended.stderr
    ended = run_here("export", model, line_data, "--precision", "fp16")
    assert ended.returncode == 0, ended.stderr
    ended = run_here("verify", model, "--all")
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_an_image_without_structure_has_a_score(files):
    network = build(files, "crane_plus").network
    side = authors.PLUS_LARGER
    for name, weights in network.dino.tower.named_parameters():
        if name == "pos_embed":
            weights.zero_()  # so that all patches are alike
    with torch.inference_mode():
        image = torch.full((1, side, side, 3), 128, dtype=torch.uint8)
        patches, score = network(image)
        assert network.dino(image).diagonal(dim1=1, dim2=2).min() > 0.99
    assert patches.isfinite().all() and score.isfinite().all()


def test_images_that_the_text_tower_cannot_read_are_no_part_of_prompts(files):
    with pytest.raises(SettingsError, match="shows its prompts the image, 512 channels, .* reads 16: take another"):
        build(files, "crane", prompts=None, auxiliary=("other",))


@pytest.mark.slow
def test_prompts_of_crane_plus_are_learnt_from_an_auxiliary_set(files, line_data):
    learnt = {"prompts": None, "auxiliary": (str(line_data),), "epochs": 2, "learning_rate": 0.02}
    method, untrained = (build(files, "crane_plus", **learnt) for _ in range(2))
    labelled = LabelledSet([line_data], method.preprocessing)
    everything = labelled.batch(range(0, len(labelled), 4))
    trained = method.fit([])
    with torch.no_grad():
        assert method.loss(*everything) < 0.95 * untrained.loss(*everything)
    assert not trained.network.texts.requires_grad


@pytest.mark.slow
def test_prompts_are_learnt_from_an_auxiliary_set(files, line_data):
    method = build(
        files,
        "anomaly_clip",
        prompts=None,
        auxiliary=(str(line_data),),
        context=4,
        deep_context=2,
        deep_blocks=1,
        epochs=2,
        learning_rate=0.02,
    )
    untrained = AnomalyClip(method.config, weights=files / "anomaly_clip.pth")
    labelled = LabelledSet([line_data], method.preprocessing)
    everything = labelled.batch(range(len(labelled)))
    trained = method.fit([])
    again = AnomalyClip(method.config, weights=files / "anomaly_clip.pth")
    again.learn([], Course())
    with torch.no_grad():
        assert method.loss(*everything) < 0.9 * untrained.loss(*everything)
    torch.testing.assert_close(again.network.texts, trained.network.texts, rtol=0, atol=0)
    assert trained.learns_from == "nothing" and not trained.network.texts.requires_grad
