"""Foundation backbones equal the authors' code on the same random weights, and no longer when one thing is turned.

Both compute in float32: what is left is the order of sums, 1e-5 of the largest number.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")
pytest.importorskip("timm", reason="foundation backbones are timm's")

import towers_authors as authors  # noqa: E402
from towers import NAMES, SMALL, THEIRS, authors_state  # noqa: E402

from edgead_foundation.backbones import files as tower_files  # noqa: E402
from edgead_foundation.backbones.names import TOWERS  # noqa: E402
from edgead_foundation.backbones.towers import TowerBackbone, build_tower  # noqa: E402

pytestmark = pytest.mark.usefixtures("small_towers")
LAYERS = tuple(f"block{number}" for number in authors.BLOCKS)
TOLERANCE = 1e-5


@pytest.fixture
def small_towers(monkeypatch):
    for name, tower in SMALL.items():
        monkeypatch.setitem(TOWERS, name, tower)


def build(family: str, size: int, folder) -> torch.nn.Module:
    file = folder / f"{family}.pth"
    if not file.exists():
        torch.save(authors_state(family), file)
    patch = authors.PATCHES[family]
    return build_tower(NAMES[family], tuple(patch * count for count in authors.GRIDS[size]), weights=file)


@torch.inference_mode()
def differences(network: torch.nn.Module, family: str, size: int) -> list[float]:
    """How far the embedding, and each block's tokens, are from the authors', in parts of the largest number."""
    image = authors.draw_image(family, authors.GRIDS[size])
    found = {"embedding": network(image)}
    backbone = TowerBackbone(network, LAYERS)
    found |= dict(zip(LAYERS, backbone(image * backbone.std + backbone.mean), strict=True))
    theirs = {name: THEIRS[f"{family}/{name}_{size}"] for name in found}
    return [
        float(np.abs(found[name].numpy() - value).max() / np.abs(value).max())
        if tuple(found[name].shape) == value.shape
        else np.inf
        for name, value in theirs.items()
    ]


@pytest.mark.parametrize("size", range(len(authors.GRIDS)))
@pytest.mark.parametrize("family", NAMES)
def test_a_tower_gives_what_its_authors_code_gives(family, size, tmp_path):
    assert max(differences(build(family, size, tmp_path), family, size)) <= TOLERANCE


def set_on_blocks(path: str, value):
    def turn(network):
        for block in network.blocks:
            holder = block
            *inner, last = path.split(".")
            for name in inner:
                holder = getattr(holder, name)
            setattr(holder, last, value)

    return turn


def another_eps(network):
    for module in network.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-5 if module.eps == 1e-6 else 1e-6


def fewer_heads(network):
    for block in network.blocks:
        block.attn.num_heads, block.attn.head_dim = 2, authors.WIDTH // 2


def no_registers(network):
    network.num_prefix_tokens -= network.reg_token.shape[1]
    network.num_reg_tokens, network.reg_token = 0, None


def registers_after_the_class_token_are_patches(network):
    network.num_prefix_tokens = 1


def no_layer_scale(network):
    for name, parameter in network.named_parameters():
        if "gamma" in name:
            parameter.fill_(1)


TURNED = {
    "GELU for QuickGELU": ("clip", set_on_blocks("mlp.act", torch.nn.GELU())),
    "another GELU": ("openclip", set_on_blocks("mlp.act", torch.nn.GELU("tanh"))),
    "no normalisation before the blocks": ("clip", lambda network: setattr(network, "norm_pre", torch.nn.Identity())),
    "CLIP's eps": ("clip", another_eps),
    "DINO's eps": ("dino", another_eps),
    "DINOv2's eps": ("dinov2", another_eps),
    "DINOv3's eps": ("dinov3", another_eps),
    "fewer heads of CLIP": ("clip", fewer_heads),
    "fewer heads of DINO": ("dino", fewer_heads),
    "no layer scale in DINOv2": ("dinov2", no_layer_scale),
    "no layer scale in DINOv3": ("dinov3", no_layer_scale),
    "no registers in DINOv2": ("dinov2_reg", no_registers),
    "no registers in DINOv3": ("dinov3", no_registers),
    "registers taken for patches": ("dinov3", registers_after_the_class_token_are_patches),
    "positions turned by pairs": ("dinov3", set_on_blocks("attn.rotate_half", False)),
}


@pytest.mark.parametrize("turned", TURNED)
def test_one_thing_turned_in_the_network_is_seen(turned, tmp_path):
    family, turn = TURNED[turned]
    network = build(family, 0, tmp_path)
    with torch.inference_mode():
        turn(network)
        try:
            found = differences(network, family, 0)
        except RuntimeError:  # shapes that do not fit
            return
    assert max(found) > 3 * TOLERANCE


@pytest.mark.parametrize("size", (1, 2))
@pytest.mark.parametrize("family", ("clip", "dino", "dinov2", "dinov2_reg"))
def test_positions_of_another_family_are_seen(family, size, tmp_path, monkeypatch):
    tower = TOWERS[NAMES[family]]
    other = {"offset": "antialiased", "antialiased": "offset"}[tower.family.positions]
    monkeypatch.setitem(TOWERS, NAMES[family], replace(tower, family=replace(tower.family, positions=other)))
    assert max(differences(build(family, size, tmp_path), family, size)) > 3 * TOLERANCE


def test_positions_scaled_without_the_authors_tenth_are_seen(tmp_path, monkeypatch):
    monkeypatch.setattr("edgead_foundation.backbones.towers._OFFSET", 1e-6)
    assert max(differences(build("dino", 1, tmp_path), "dino", 1)) > 3 * TOLERANCE


@pytest.mark.parametrize("family", NAMES)
def test_a_file_is_recognised_by_its_tensors(family, tmp_path):
    found = tower_files._recognise(authors_state(family))
    alike = {"clip": ["clip_vitb16", "openclip_vitb16"], "openclip": ["clip_vitb16", "openclip_vitb16"]}
    assert found == alike.get(family, [NAMES[family]])
