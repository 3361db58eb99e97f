"""FiLo: its files and settings; exported, verified and calibrated; learnt from labelled sets."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")
pytest.importorskip("timm", reason="foundation backbones are timm's")
pytest.importorskip("open_clip", reason="text towers are OpenCLIP's")

import filo_authors as authors  # noqa: E402
from command_line import run_here  # noqa: E402
from filo import THEIRS, build, clip_file, learnt_file, small_towers  # noqa: E402, F401
from safetensors.torch import save_file  # noqa: E402

from edgead.artifact.folder import Artifact  # noqa: E402
from edgead.errors import SettingsError  # noqa: E402
from edgead.workstation.methods.load import load_network  # noqa: E402
from edgead_foundation.filo.detector import Filo  # noqa: E402
from edgead_foundation.filo.files import authors_name, is_learnt, load_learnt  # noqa: E402
from edgead_foundation.filo.network import MultiShape, blurred, highest  # noqa: E402
from edgead_foundation.filo.words import PLACES, anomalous_sentences, read_descriptions  # noqa: E402


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return tmp_path_factory.mktemp("filo")


def test_every_detail_is_said_of_every_place():
    said = anomalous_sentences("metal nut", ["cracks"], PLACES)
    assert len(said) == 9 * (1 + 5) and said[4] == "abnormal metal nut with cracks at center."
    assert said[9] == "damaged metal nut at top left."


def test_details_that_clip_cannot_read_are_refused(files):
    with pytest.raises(SettingsError, match=r"bent at top left.' has 1\d\d tokens, and CLIP reads 75: say it in fewer"):
        build(files, details=(" ".join(["bent"] * 100),))


def test_convolutions_of_all_shapes_are_one_when_they_are_learnt():
    torch.manual_seed(0)
    layer, x = MultiShape(3, 5), torch.randn(2, 3, 9, 8)
    with torch.no_grad():
        torch.testing.assert_close(layer.merged()(x), layer(x), rtol=0, atol=1e-5)


def test_a_map_has_nine_thirds():
    maps = torch.zeros(2, 10, 11)
    maps[0, 9, 0], maps[1, 4, 5] = 1, 2
    found = highest(maps)
    assert found.shape == (2, 9) and PLACES[int(found[0].argmax())] == "bottom left"
    assert found[1].tolist() == [0, 0, 0, 0, 2, 0, 0, 0, 0]


def test_maps_are_blurred_as_torchvision_does_it():
    transforms = pytest.importorskip("torchvision.transforms", reason="comes with training")
    maps = torch.from_numpy(np.random.default_rng(0).random((2, 7, 9), np.float32))
    torch.testing.assert_close(blurred(maps), transforms.GaussianBlur(3, 4.0)(maps), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "filo takes learnt prompts, --set prompts=filo_train_on_mvtec.pth, or learns them from labelled images"),
        ({"prompts": "a"}, "filo needs a whole CLIP, clip_vitl14_336: give its file with --weights"),
        ({"backbone": "dino_vits8"}, "backbone 'dino_vits8' has no text tower: choose one of clip_vitb32"),
        ({"layers": ["block7", "block8"]}, "filo takes block6 and at least one after it"),
        ({"layers": ["block6"]}, "filo takes block6 and at least one after it"),
        ({"part": " "}, "part is empty: say what the images show"),
        ({"place": "above"}, "place 'above': choose one of all, map, top left"),
        ({"epochs": 0}, "context, epochs and adapter_epochs must be at least 1"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(SettingsError, match=message):
        Filo.from_settings(settings)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "has no parts: give lines such as"),
        ("nut: bent", "line 1: 'nut' has 'bent': give a list of 1 to 50 texts"),
        ("nut: [bent]\nbolt: [1]", r"line 2: 'bolt' has \[1\]: give a list of 1 to 50 texts"),
        ("nut: []", "give a list of 1 to 50 texts"),
        ("nut: [bent", "is not YAML: a bracket is not closed"),
    ],
)
def test_files_that_describe_no_parts_are_refused(text, message, tmp_path):
    (tmp_path / "words.yaml").write_text(text)
    with pytest.raises(SettingsError, match=message):
        read_descriptions(tmp_path / "words.yaml")


def test_details_are_read_of_the_part_and_kept_as_settings(tmp_path):
    file = tmp_path / "words.yaml"
    file.write_text("nut: [bent]\nmetal nut:\n  - cracks\n  - scratches on the thread\n")
    small = {"backbone": "clip_vitb16", "layers": ["block6", "block7"], "image_size": (96, 96), "place": "center"}
    method = Filo.from_settings({**small, "descriptions": str(file), "part": "metal nut"}, pretrained=False)
    assert method.settings()["details"] == ["cracks", "scratches on the thread"]
    file.unlink()  # a finished model has no use for it
    again = Filo.from_settings(method.settings(), pretrained=False)
    assert again.network.anomalous.embedded.shape == method.network.anomalous.embedded.shape
    file.write_text("nut: [bent]")
    with pytest.raises(SettingsError, match="says nothing of 'bolt': give part as one of nut, or add a line"):
        Filo.from_settings({**small, "descriptions": str(file), "part": "bolt"}, pretrained=False)


class Evil:
    def __reduce__(self):
        return print, ("run",)


def test_all_that_the_authors_have_learnt_is_read(files):
    method = build(files, prompts=None, auxiliary=("other",))
    learnt = {name for name in method.network.state_dict() if is_learnt(name)}
    assert {authors_name(name) for name in learnt} == set(THEIRS["learnt_names"].tolist())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"filo": {"adapter": Evil()}}, "holds Python objects, which edgead does not unpickle"),
        ({"filo": [1]}, "holds a dict without tensors by name"),
        ({"filo": {"other": torch.zeros(1)}}, "holds nothing that FiLo has learnt with this CLIP .*begin with other"),
        (None, "there is no file .*: give what was learnt, such as the authors' filo_train_on_mvtec.pth"),
    ],
)
def test_other_files_hold_nothing_learnt(content, message, tmp_path, capsys):
    file = tmp_path / "filo.pth"
    if content is not None:
        torch.save(content, file)
    network = torch.nn.ModuleDict({"narrow": torch.nn.Linear(2, 1, bias=False)})
    with pytest.raises(SettingsError, match=message):
        load_learnt(network, file)
    assert capsys.readouterr().out == ""


def settings_of(method) -> list[str]:
    """Options of the command line that give a method's settings."""
    return [
        option
        for name, value in method.settings().items()
        if value is not None
        for option in ("--set", f"{name}={json.dumps(value) if isinstance(value, list) else value}")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("place", ["all", "map", "top right"])
def test_a_detector_is_made_calibrated_exported_and_verified(place, files, line_data, tmp_path):
    pytest.importorskip("onnx", reason="exporting needs the workstation's packages")
    method, model, one = build(files, place=place), tmp_path / "model", tmp_path / "one"
    one.mkdir()
    (one / "part.png").symlink_to(sorted((line_data / "test" / "good").iterdir())[0])
    made = ["train", one, "-o", model, "--detector", "filo", "--weights", clip_file(files), *settings_of(method)]
    ended = run_here(*made, "--json")
    assert ended.returncode == 0, ended.stderr
    artifact = Artifact.load(model)
    assert artifact.manifest.learns_from == "nothing" and artifact.manifest.training["prompts_sha256"]
    state = load_network(artifact).state_dict()
    for name, value in method.network.state_dict().items():
        assert torch.equal(state[name], value)
    ended = run_here("calibrate", model, line_data / "test" / "good", "--false-reject-rate", 0.2)
    assert ended.returncode == 0, ended.stderr
    ended = run_here("export", model, line_data, "--precision", "fp16")
    assert ended.returncode == 0, ended.stderr
    ended = run_here("verify", model, "--all")
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.slow
def test_all_is_learnt_from_an_auxiliary_set(files, line_data, tmp_path):
    words = tmp_path / "words.yaml"
    words.write_text(f"{line_data.name.replace('_', ' ')}: [a missing hole]\nmetal nut: [bent]\n")
    settings = {"prompts": None, "auxiliary": (str(line_data),), "details": (), "descriptions": str(words)}
    fast = {"epochs": 1, "adapter_epochs": 1, "learning_rate": 0.01, "decoder_learning_rate": 0.01}
    method, again = (build(files, **settings, **fast) for _ in range(2))
    untrained = build(files, **settings, **fast).network
    trained = method.fit([])
    again.fit([])
    state = trained.network.state_dict()
    assert not any(value.requires_grad for value in trained.network.parameters())
    assert state["shapes.0.weight"].shape == (authors.EMBEDDED, authors.WIDTH, 7, 7)
    for name, value in again.network.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=0, atol=0)
    for name in ("words.good.tokens", "words.anomalous.second.weight", "linear.3.weight", "narrow.weight"):
        assert not torch.equal(state[name], untrained.state_dict()[name])
    for name, value in untrained.state_dict().items():
        assert not name.startswith(("tower.", "words.blocks.")) or torch.equal(value, state[name])


@pytest.mark.slow
def test_learnt_files_may_be_safetensors(files, tmp_path):
    state = torch.load(learnt_file(files), weights_only=True)["filo"]
    save_file(state, tmp_path / "filo.safetensors")
    first, second = build(files).network, build(files, prompts=str(tmp_path / "filo.safetensors")).network
    torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)
