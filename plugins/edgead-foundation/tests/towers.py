"""Towers of every family that are small enough for a test, under the names of real ones."""

from __future__ import annotations

from dataclasses import replace

import torch
import towers_authors as authors
from authors import authors_numbers

from edgead_foundation.backbones.names import TOWERS, Tower

NAMES = {
    "clip": "clip_vitb16",
    "openclip": "openclip_vitb16",
    "dino": "dino_vits8",
    "dinov2": "dinov2_vits14",
    "dinov2_reg": "dinov2_vits14_reg",
    "dinov3": "dinov3_vits16",
    "dinov3_plus": "dinov3_vits16plus",
}


def small(family: str) -> Tower:
    """A real tower with the sizes of the fixture."""
    side = authors.GRID * authors.PATCHES[family]
    sizes = {"width": authors.WIDTH, "depth": authors.DEPTH, "heads": authors.HEADS}
    return replace(TOWERS[NAMES[family]], side=side, **sizes)


THEIRS = authors_numbers("towers")
SMALL = {NAMES[family]: small(family) for family in NAMES}


def authors_state(family: str) -> dict[str, torch.Tensor]:
    """The weights that the authors' code was run with, by its own names; those of OpenCLIP stand in a whole CLIP."""
    names, shapes = (THEIRS[f"{family}/{kind}"].tolist() for kind in ("names", "shapes"))
    return {
        name: authors.draw(name.removeprefix("visual."), tuple(map(int, shape.split())))
        for name, shape in zip(names, shapes, strict=True)
    }
