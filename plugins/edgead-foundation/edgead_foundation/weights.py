"""Command `weights`, which converts weights of a foundation backbone to a checked file without pickles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgead.cli.app import Json, app, print_report
from edgead.cli.console import facts_table


@app.command()
def weights(
    file: Annotated[
        Path,
        typer.Argument(
            exists=True, dir_okay=False, help="Weights of CLIP, DINO, DINOv2 or DINOv3: safetensors or a state dict."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write; its name ends in .safetensors.")],
    tower: Annotated[
        str | None,
        typer.Option(help="Name of the network, such as clip_vitb16; needed if the weights fit several networks."),
    ] = None,
    json: Json = False,
) -> None:
    """Convert the weights of a foundation backbone to safetensors, without unpickling, and identify the network.

    Then train with `edgead train --backbone TOWER --weights OUTPUT`.
    """
    from edgead_foundation.backbones.files import convert

    report = {"weights": str(output), **convert(file, output, tower)}
    print_report(report, json, lambda: facts_table(str(output), report))
