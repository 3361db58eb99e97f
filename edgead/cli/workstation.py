"""Verbs `export` and `verify` of the workstation, which import torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgead.cli.app import Json, Model, app, find_images, print_report, read_numbers
from edgead.cli.choices import PrecisionName
from edgead.cli.console import (
    export_facts,
    facts_table,
    pairs_table,
    parity_table,
    stage_bars,
    standalone_facts,
    stderr,
)
from edgead.errors import SettingsError

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
        PrecisionName | None,
        typer.Option(
            help="Precision of the graph, fp32 by default; with --standalone the one that the model opens by default. "
            "int8_symmetric is for TensorRT."
        ),
    ] = None,
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
    make_default: Annotated[
        bool, typer.Option("--make-default", help="Make this graph the one that is used without --precision.")
    ] = False,
    standalone: Annotated[
        Path | None,
        typer.Option(
            help="ONNX file to write, from a decoded image to map, score and decision: it runs without edgead. The "
            "model stays as it is."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="With --standalone: replace a file that is there.")] = False,
    size: Annotated[
        str | None,
        typer.Option(
            help="With --standalone: WIDTHxHEIGHT of the images that it takes; by default as in the training."
        ),
    ] = None,
    batch: Annotated[
        bool, typer.Option("--batch", help="With --standalone: take any number of images at once.")
    ] = False,
    json: Json = False,
) -> None:
    """Write another precision: beside the others for networks, in place of the one there for patchcore."""
    if standalone is not None:
        others = {"DATA": data, "--normal-dir": normal_dir, "--group": group, "--tolerance": tolerance}
        others |= {"--make-default": make_default or None}
        given = [name for name, value in others.items() if value is not None]
        if given:
            raise SettingsError(f"--standalone writes what the model has: leave out {', '.join(given)}")
        if standalone.exists() and not force:
            raise SettingsError(f"{standalone} exists already: name another file, or give --force to replace it")
        _export_standalone(model, standalone, None if precision is None else str(precision), size, batch, json)
        return
    if batch:
        raise SettingsError("--batch goes with --standalone: the model's own graphs take one image")
    if force:
        raise SettingsError("--force goes with --standalone: the model keeps its graph until a new one is checked")
    if size is not None:
        raise SettingsError("--size goes with --standalone: the model's own graphs take images of any size")
    with stage_bars(["load the program"]):  # torch takes seconds
        from edgead.export.add_graph import add_graph
        from edgead.export.precision import PrecisionPlan
    from edgead.artifact.folder import Artifact

    precision = precision or "fp32"
    before = Artifact.load(model).precisions
    plan = PrecisionPlan(str(precision), tolerance, make_default)
    with stage_bars() as progress:
        artifact = add_graph(model, plan, data, normal_dir=normal_dir, group=group, progress=progress)
    gone = [name for name in before if name not in artifact.precisions]
    report = export_facts(artifact, precision) | ({"replaced": ", ".join(gone)} if gone else {})
    print_report(report, json, lambda: facts_table(str(model), report))


def _export_standalone(
    model: Path, file: Path, precision: str | None, size: str | None, batch: bool, json: bool
) -> None:
    sides = None if size is None else read_numbers("--size", size, (2,))
    from edgead.export.standalone import write_standalone

    from edgead.artifact.folder import Artifact

    shape = None if sides is None else (sides[0], sides[1])
    written = write_standalone(Artifact.load(model), file, precision=precision, size=shape, batch=batch)
    if written.warning:
        stderr.print(f"warning: {written.warning}", style="yellow", soft_wrap=True)
    print_report(written.to_dict(), json, lambda: facts_table(str(file), standalone_facts(written)))


@app.command()
def verify(
    model: Model,
    images: Annotated[
        list[Path] | None, typer.Argument(help="Images, folders, or a data set; by default the golden images.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Check every graph on every installed runtime.")] = False,
    json: Json = False,
) -> None:
    """Compare the torch network with the deployed graph; exit 1 when they differ by more than the tolerance.

    A model that no torch network made, imported or learnt in another precision, is compared with its graph as one
    engine runs it.
    """
    from edgead.artifact.folder import Artifact

    artifact = Artifact.load(model)
    passed = _verify_all(artifact, images or [], json) if everything else _verify_fp32(artifact, images or [], json)
    if not passed:
        raise typer.Exit(1)


def _verify_fp32(artifact: Artifact, images: list[Path], json: bool) -> bool:
    paths = find_images(images)
    with stage_bars(["compare", "judge golden images"]) as progress:
        from edgead.export.verify import verify  # with torch, which takes seconds

        found = verify(artifact, paths, progress)
    report = {compared: parity.to_dict() for compared, parity in found.items()}
    print_report(report, json, lambda: parity_table(report))
    return all(parity.passed for parity in found.values())


def _verify_all(artifact: Artifact, images: list[Path], json: bool) -> bool:
    from edgead.export.verify_matrix import all_pairs, verify_pairs

    from edgead.dataset.folders import find_test_images
    from edgead.workstation.methods.load import has_torch

    labelled = len(images) == 1 and (images[0] / "test").is_dir()
    golden = [artifact.path / golden.image for golden in artifact.learnt_graph.golden]
    shown = find_test_images(images[0]) if labelled else find_images(images) or golden
    with stage_bars() as progress:
        reports = verify_pairs(artifact, all_pairs(artifact), shown, progress=progress)
    rows = [report.to_dict() for report in reports]
    against = "torch" if has_torch(artifact) else "its graph on one engine"
    print_report({"model": str(artifact.path), "pairs": rows}, json, lambda: pairs_table(rows, against))
    return all(report.passed for report in reports)
