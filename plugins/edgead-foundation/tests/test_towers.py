"""Foundation backbones: their files, the verb `weights`, patchcore and mvg on them, exported and verified."""

from __future__ import annotations

import json
from importlib.util import find_spec

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")
pytest.importorskip("timm", reason="foundation backbones are timm's")

from command_line import run_here  # noqa: E402
from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from towers import SMALL, authors_state  # noqa: E402

from edgead.adapt.methods.patchcore import PatchCore  # noqa: E402
from edgead.artifact.files import file_sha256  # noqa: E402
from edgead.artifact.folder import Artifact  # noqa: E402
from edgead.errors import SettingsError  # noqa: E402
from edgead.workstation.backbones.pretrained import build_backbone  # noqa: E402
from edgead.workstation.methods.mvg.detector import Mvg  # noqa: E402
from edgead_foundation.backbones import files as tower_files  # noqa: E402
from edgead_foundation.backbones.files import convert, read_tower  # noqa: E402
from edgead_foundation.backbones.names import TOWERS  # noqa: E402
from edgead_foundation.backbones.networks import create  # noqa: E402

pytestmark = pytest.mark.usefixtures("small_towers")
NAME = "dinov2_vits14_reg"
REAL = dict(TOWERS)


@pytest.fixture(autouse=True)
def small_towers(monkeypatch):
    for name, tower in SMALL.items():
        monkeypatch.setitem(TOWERS, name, tower)


def random_state(name: str = NAME) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    tower = TOWERS[name]
    state = create(tower, (tower.side, tower.side)).state_dict()
    return {key: value + 0.02 * torch.randn_like(value) for key, value in state.items()}


@pytest.fixture
def weights(tmp_path):
    """A file of timm's names, as its repositories have them."""
    save_file(random_state(), tmp_path / "timm.safetensors")
    return tmp_path / "timm.safetensors"


@pytest.mark.slow
def test_every_tower_is_one_of_timm_and_says_its_sizes():
    import timm

    for name, tower in REAL.items():
        with torch.device("meta"):
            network = timm.create_model(f"{tower.architecture}.{tower.family.tag}", pretrained=False)
        assert network.patch_embed.patch_size == (tower.patch,) * 2, name
        assert network.patch_embed.img_size == (tower.side,) * 2, name
        assert (network.embed_dim, len(network.blocks)) == (tower.width, tower.depth), name
        assert network.blocks[0].attn.num_heads == tower.heads, name


@pytest.mark.parametrize("name", SMALL)
def test_any_size_of_whole_patches_is_taken(name):
    patch = TOWERS[name].patch
    backbone = build_backbone(name, ["block3", "block1"], image_size=(3 * patch, 7 * patch), pretrained=False)
    with torch.inference_mode():
        found = backbone(torch.zeros(2, 3, 3 * patch, 7 * patch))
    assert backbone.layers == ("block1", "block3") and [tuple(x.shape) for x in found] == [(2, 24, 3, 7)] * 2
    assert not any(parameter.requires_grad for parameter in backbone.parameters()) and not backbone.training
    assert len(backbone.network.blocks) == 3
    assert len(build_backbone(name, ["block2"], image_size=(patch, patch), pretrained=False).network.blocks) == 2


def test_pixels_are_normalised_as_each_family_was_trained():
    imagenet, clip = (
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ((0.4815, 0.4578, 0.4082), (0.2686, 0.2613, 0.2758)),
    )
    for name in SMALL:
        patch = TOWERS[name].patch
        backbone = build_backbone(name, ["block1"], image_size=(patch, patch), pretrained=False)
        mean, std = clip if "clip" in name else imagenet
        np.testing.assert_allclose(backbone.mean.flatten() / 255, mean, atol=1e-4)
        np.testing.assert_allclose(backbone.std.flatten() / 255, std, atol=1e-4)


def test_other_sizes_layers_and_names_are_refused():
    with pytest.raises(SettingsError, match=r"patches of 14 pixels, so give multiples of them, such as \[322, 448\]"):
        build_backbone(NAME, ["block1"], image_size=(320, 448), pretrained=False)
    with pytest.raises(SettingsError, match="choose from block1, block2, block3"):
        PatchCore.from_settings({"backbone": NAME})
    with pytest.raises(SettingsError, match="choose from block1, block2, block3"):
        Mvg.from_settings({"backbone": NAME})
    with pytest.raises(SettingsError, match="unknown backbone 'dinov4'.*efficientnet_lite0.*clip_vitb16"):
        PatchCore.from_settings({"backbone": "dinov4"})


def test_a_conversion_says_what_it_is_and_gives_the_same_network(weights, tmp_path):
    out = tmp_path / "new" / "dino.safetensors"
    ended = run_here("weights", weights, "-o", out, "--json")
    assert ended.returncode == 0, ended.stderr
    facts = json.loads(ended.stdout)
    assert (facts["tower"], facts["patch"], facts["image_size"], facts["licence"]) == (NAME, 14, 56, "Apache-2.0")
    assert facts["source_sha256"] == file_sha256(weights) and facts["sha256"] == file_sha256(out)
    with safe_open(out, framework="pt") as opened:
        assert json.loads(opened.metadata()["edgead_tower"])["source"] == "timm.safetensors"
    torch.testing.assert_close(read_tower(out, NAME), load_file(weights), rtol=0, atol=0)
    with pytest.raises(SettingsError, match=f"does not hold weights of dino_vits8; it holds weights of {NAME}"):
        read_tower(out, "dino_vits8")


def test_half_floats_of_a_whole_clip_are_read_and_its_activation_is_asked_for(tmp_path):
    text = {"positional_embedding": torch.zeros(77, 8), "logit_scale": torch.zeros(())}
    state = authors_state("clip")
    torch.save({name: value.half() for name, value in {**state, **text}.items()}, tmp_path / "clip.pt")
    found = read_tower(tmp_path / "clip.pt", "clip_vitb16")
    assert found["head.weight"].shape == (512, 24) and all(value.dtype == torch.float32 for value in found.values())
    torch.testing.assert_close(found["pos_embed"][0], state["visual.positional_embedding"], rtol=1e-3, atol=1e-3)
    with pytest.raises(SettingsError, match="may be clip_vitb16 or openclip_vitb16.*--tower"):
        convert(tmp_path / "clip.pt", tmp_path / "out.safetensors")
    facts = convert(tmp_path / "clip.pt", tmp_path / "out.safetensors", "openclip_vitb16")
    assert facts["tower"] == "openclip_vitb16"
    with pytest.raises(SettingsError, match="it holds weights of openclip_vitb16: give backbone=openclip_vitb16"):
        read_tower(tmp_path / "out.safetensors", "clip_vitb16")


def test_an_archive_of_torchscript_is_opened_if_it_is_openais(tmp_path, monkeypatch):
    class Visual(torch.nn.Module):
        def __init__(self):
            super().__init__()
            for name, value in random_state().items():
                self.register_buffer(name.replace(".", "_"), value)

    file = tmp_path / "script.pt"
    with pytest.warns(DeprecationWarning, match="torch.jit"):
        torch.jit.save(torch.jit.script(Visual()), file)
    with pytest.raises(SettingsError, match="an archive of TorchScript, which can run what is in it, and none of"):
        convert(file, tmp_path / "x.safetensors")
    monkeypatch.setitem(tower_files.OPENAI, file_sha256(file), "clip_vitb16")
    tensors, said = tower_files._read(file)
    assert said == "clip_vitb16" and len(tensors) == len(random_state())


class Evil:
    def __reduce__(self):
        return print, ("run",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"w": Evil()}, "holds Python objects, which edgead does not unpickle"),
        ({"teacher": {"w": torch.zeros(1)}}, "holds a dict of teacher instead of tensors by name"),
        ([1, 2], "holds a list instead of tensors by name"),
        ({"conv1.weight": torch.zeros(8, 3, 3, 3)}, "holds none of the towers .*; its entries are conv1.weight"),
        (None, "neither safetensors nor a file of torch.save"),
    ],
)
def test_other_files_are_refused_and_nothing_is_written(content, message, tmp_path, capsys):
    file, out = tmp_path / "other.pth", tmp_path / "out.safetensors"
    out.write_bytes(b"as it was")
    if content is None:
        file.write_bytes(b"no weights at all")
    else:
        torch.save(content, file)
    with pytest.raises(SettingsError, match=message):
        convert(file, out)
    assert out.read_bytes() == b"as it was" and capsys.readouterr().out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.pth", "out.safetensors"]


def test_an_onnx_graph_is_named(tmp_path):
    (tmp_path / "vit.onnx").write_bytes(b"\x08\x08\x12\x07pytorch" + bytes(40))
    with pytest.raises(SettingsError, match=r"vit.onnx is an ONNX graph: give a state dict"):
        read_tower(tmp_path / "vit.onnx", NAME)


def test_the_tower_of_a_trained_inp_former_is_read(tmp_path):
    state = random_state("dinov2_vitb14_reg")
    whole = {f"encoder.{name}": x for name, x in state.items()} | {"prototype_token": torch.zeros(6, 24)}
    torch.save(whole, tmp_path / "model.pth")
    found = read_tower(tmp_path / "model.pth", "dinov2_vitb14_reg")
    assert found.keys() == state.keys() and all(torch.equal(found[name], state[name]) for name in state)


def test_a_tower_with_a_classifier_or_of_another_size_is_none(tmp_path):
    state = random_state("dino_vits8")
    for name, changed in {
        "classifier": {"head.weight": torch.zeros(1000, 24)},
        "positions": {"pos_embed": torch.zeros(1, 26, 24)},
        "patches": {"patch_embed.proj.weight": torch.zeros(24, 3, 16, 16)},
    }.items():
        save_file({**state, **changed}, tmp_path / f"{name}.safetensors")
        with pytest.raises(SettingsError, match="does not hold weights of dino_vits8; it holds entries blocks.0"):
            read_tower(tmp_path / f"{name}.safetensors", "dino_vits8")


def test_what_is_written_is_called_safetensors(weights, tmp_path):
    with pytest.raises(SettingsError, match="give a name that ends like that"):
        convert(weights, tmp_path / "out.pth")
    with pytest.raises(SettingsError, match="unknown tower 'dinov9'"):
        convert(weights, tmp_path / "out.safetensors", "dinov9")


def test_without_a_network_a_file_is_asked_for(monkeypatch):
    import timm

    def fail(*_, pretrained, **__):
        assert pretrained
        raise ConnectionError("no route to host\nand much more")

    create_model = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda *a, **k: fail(*a, **k) if k.get("pretrained") else create_model(*a, **k)
    )
    with pytest.raises(SettingsError, match=rf"{NAME} could not be downloaded \(no route to host\): give a file"):
        build_backbone(NAME, ["block1"], image_size=(56, 56))


@pytest.mark.slow
def test_patchcore_on_a_tower_from_the_command_line(line_data, weights, tmp_path):
    pytest.importorskip("onnx", reason="exporting needs the workstation's packages")
    model = tmp_path / "model"
    arguments = ["--backbone", NAME, "--layers", "block2,block3", "--image-size", "56,84", "--weights", weights]
    ended = run_here("train", line_data, "-o", model, *arguments, "--memory-bank-size", 200, "--json")
    assert ended.returncode == 0, ended.stderr
    assert f"{NAME}: about " in ended.stderr and " ms a frame on one core of this machine" in ended.stderr
    manifest = Artifact.load(model).manifest
    assert manifest.training["channels"] == [24, 24]
    assert manifest.training["weights_licence"] == "Apache-2.0"
    assert manifest.training["weights_sha256"] == file_sha256(weights)
    assert run_here("verify", model).returncode == 0
    ended = run_here("export", model, line_data, "--precision", "fp16")
    assert ended.returncode == 0, ended.stderr
    small, whole = (Artifact.load(model).graph(precision).path.stat().st_size for precision in ("fp16", "fp32"))
    assert small < 0.7 * whole
    assert run_here("verify", model, "--all").returncode == 0
    if find_spec("tensorrt_rtx_bindings"):
        ended = run_here("engine", model, "--precision", "fp16", "--target", "sm86")
        assert ended.returncode == 0, ended.stderr
    ended = run_here("export", model, line_data, "--precision", "int8")
    assert ended.returncode == 2 and "take fp16" in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_every_family_is_exported_with_mvg(name, line_data, tmp_path):
    pytest.importorskip("onnx", reason="exporting needs the workstation's packages")
    save_file(random_state(name), tmp_path / "w.safetensors")
    patch = TOWERS[name].patch
    arguments = ["--backbone", name, "--layers", "block1,block3", "--set", "map_layers=[block3]"]
    arguments += ["--image-size", f"{5 * patch},{4 * patch}", "--weights", tmp_path / "w.safetensors"]
    ended = run_here("train", line_data, "-o", tmp_path / "m", "--detector", "mvg", *arguments)
    assert ended.returncode == 0, ended.stderr
    # Of random weights half floats change more than of learnt ones.
    ended = run_here("export", tmp_path / "m", line_data, "--precision", "fp16", "--tolerance", "0.01")
    assert ended.returncode == 0, ended.stderr
    assert run_here("verify", tmp_path / "m", "--all").returncode == 0
