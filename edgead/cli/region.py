"""The option `--roi` of training: a region in numbers, or `auto`, which finds it in the good images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from edgead.cli.app import read_numbers
from edgead.cli.console import stderr
from edgead.dataset.folders import find_good_images
from edgead.dataset.part_region import find_part_region

AUTO = "auto"
RegionOrAuto = Annotated[
    str | None,
    typer.Option(
        "--roi",
        help="Part of the image to look at: X,Y,WIDTH,HEIGHT in pixels, or auto, which leaves out what is only "
        "background in all good images.",
    ),
]


def read_region(text: str | None, data: Path, normal_dir: str | None) -> tuple[int, int, int, int] | None:
    """Read the option; with `auto`, look at the good images and report what was found."""
    if text is None:
        return None
    if text != AUTO:
        return cast("tuple[int, int, int, int]", read_numbers("--roi", text, (4,)))
    found = find_part_region(find_good_images(data, normal_dir))
    stderr.print(f"--roi auto: {found.reason}", soft_wrap=True)
    return found.region
