"""Command `edgead-weights`: a file of a foundation backbone becomes one that is known, checked and free of pickles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgead.cli import main as run
from edgead.cli.app import Json, print_report
from edgead.cli.console import facts_table

app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def weights(
    file: Annotated[
        Path,
        typer.Argument(
            exists=True, dir_okay=False, help="Weights of CLIP, DINO, DINOv2 or DINOv3: safetensors or a state dict."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write, safetensors.")],
    tower: Annotated[
        str | None, typer.Option(help="Which network it is, such as clip_vitb16, where files of several look the same.")
    ] = None,
    json: Json = False,
) -> None:
    """Convert the weights of a foundation backbone to safetensors, without unpickling, and say what they are.

    `edgead train --backbone TOWER --weights OUTPUT` uses them.
    """
    from edgead_foundation.backbones.files import convert

    report = {"weights": str(output), **convert(file, output, tower)}
    print_report(report, json, lambda: facts_table(str(output), report))


def main() -> None:
    """Entry point of the command."""
    run(app)
