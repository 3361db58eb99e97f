"""Verbs `export` and `verify`: export and proof on the workstation; they import torch."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgead.cli.app import Json, Model, app, find_images, print_report
from edgead.cli.choices import PrecisionName
from edgead.cli.console import export_facts, facts_table, pairs_table, parity_table, stage_bars

if TYPE_CHECKING:
    from edgead.artifact.folder import Artifact


@app.command()
def export(
    model: Model,
    data: Annotated[
        Path | None,
        typer.Argument(help="The images that the model was trained on; every precision except fp32 needs them."),
    ] = None,
    precision: Annotated[
        PrecisionName, typer.Option(help="Precision of the graph; int8_symmetric is for TensorRT.")
    ] = PrecisionName.fp32,
    normal_dir: Annotated[
        str | None, typer.Option(help="Folder of good images below DATA; by default as in the training.")
    ] = None,
    group: Annotated[
        str | None, typer.Option(help="Groups of images, as for `edgead train`; by default as in the training.")
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(min=0, help="Largest mean relative difference of the scores from the scores of fp32."),
    ] = None,
    float_layers: Annotated[
        str | None,
        typer.Option(
            help="Layers that int8 keeps in float, separated by commas, or none; by default edgead searches for them."
        ),
    ] = None,
    make_default: Annotated[
        bool, typer.Option("--make-default", help="Make this graph the one that is used without --precision.")
    ] = False,
    json: Json = False,
) -> None:
    """Write a graph: fp32 again from the torch weights, or another precision beside it, with its own thresholds."""
    from edgead.export.add_graph import add_graph
    from edgead.export.precision import PrecisionPlan

    names = None if float_layers is None else [name for name in float_layers.split(",") if name not in ("none", "")]
    plan = PrecisionPlan(str(precision), tolerance, names, make_default)
    with stage_bars() as progress:
        artifact = add_graph(model, plan, data, normal_dir=normal_dir, group=group, progress=progress)
    report = export_facts(artifact, precision)
    print_report(report, json, lambda: facts_table(str(model), report))


@app.command()
def verify(
    model: Model,
    images: Annotated[
        list[Path] | None, typer.Argument(help="Images, folders, or a data set; by default the golden images.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Check every graph on every installed runtime.")] = False,
    json: Json = False,
) -> None:
    """Compare the torch network with the deployed graph; exit 1 when they differ by more than the tolerance."""
    from edgead.artifact.folder import Artifact

    artifact = Artifact.load(model)
    passed = _verify_all(artifact, images or [], json) if everything else _verify_fp32(artifact, images or [], json)
    if not passed:
        raise typer.Exit(1)


def _verify_fp32(artifact: Artifact, images: list[Path], json: bool) -> bool:
    from edgead.export.verify import compare_with_torch, replay_golden

    paths = find_images(images)
    with stage_bars() as progress:
        parity = compare_with_torch(artifact, paths, progress=partial(progress, "compare"))
    golden = replay_golden(artifact)
    report = {"torch_and_deployed": parity.to_dict(), "golden_and_deployed": golden.to_dict()}
    print_report(report, json, lambda: parity_table(report))
    return parity.passed and golden.passed


def _verify_all(artifact: Artifact, images: list[Path], json: bool) -> bool:
    from edgead.export.verify_matrix import all_pairs, verify_pairs

    from edgead.dataset.folders import find_test_images

    labelled = len(images) == 1 and (images[0] / "test").is_dir()
    golden = [artifact.path / golden.image for golden in artifact.graph("fp32").golden]
    shown = find_test_images(images[0]) if labelled else find_images(images) or golden
    with stage_bars() as progress:
        reports = verify_pairs(artifact, all_pairs(artifact), shown, progress=progress)
    rows = [report.to_dict() for report in reports]
    print_report({"model": str(artifact.path), "pairs": rows}, json, lambda: pairs_table(rows))
    return all(report.passed for report in reports)
