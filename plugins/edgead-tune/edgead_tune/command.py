"""Verb `tune`: search for a detector within a latency budget; imports torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group as Lines
from rich.table import Table

from edgead.cli.app import FalseRejectRate, Group, Json, NormalDir, Seed, TrainingData, app, print_report
from edgead.cli.choices import Runtime
from edgead.cli.console import stage_bars
from edgead.errors import SettingsError
from edgead.files.atomic import write_whole

if TYPE_CHECKING:
    from edgead_tune.run import Tuned

EXAMPLES = (
    "edgead tune good_images -o model --latency-ms 10",
    "edgead tune good_images -o model --latency-ms 5 --precisions fp32,int8",
)


@app.command(epilog="\n\n".join(("Examples:", *EXAMPLES)))
def tune(
    data: TrainingData,
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory of the model to write.")],
    latency_ms: Annotated[
        float, typer.Option(help="Time budget for a frame on this machine, in milliseconds, 95th percentile.")
    ],
    false_reject_rate: FalseRejectRate = None,
    normal_dir: NormalDir = None,
    runtime: Runtime = "onnxruntime",
    precisions: Annotated[
        str, typer.Option(help="Precisions of the finalists: some of fp32, fp16, int8, int8_symmetric.")
    ] = "fp32",
    detectors: Annotated[str, typer.Option(help="Methods to choose from.")] = "patchcore,mvg",
    trials: Annotated[int, typer.Option(min=2, help="Candidates to start with.")] = 24,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Number of processes; by default one for each core.")
    ] = None,
    ray: Annotated[str | None, typer.Option(help="Address of a Ray cluster to train on, or auto.")] = None,
    group: Group = "auto",
    plot: Annotated[
        Path | None, typer.Option(help="SVG file for the plot of the Pareto front; by default OUTPUT.svg.")
    ] = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Search for the best detector within a latency budget, and write it as a finished model."""
    from edgead_tune.run import TunePlan
    from edgead_tune.run import tune as search

    drawn = plot or output.with_name(f"{output.name}.svg")
    if plot and not plot.parent.is_dir():
        raise SettingsError(f"--plot {plot}: there is no folder {plot.parent}")
    plan = TunePlan(
        latency_ms,
        false_reject_rate,
        runtime,
        _listed(precisions),
        _listed(detectors),
        trials,
        workers,
        ray,
        seed,
        group,
        normal_dir,
    )
    with stage_bars() as progress:
        tuned = search(data, output, plan, progress=progress)
    write_whole(drawn, tuned.plot.encode())
    print_report({"model": str(output), "plot": str(drawn), **tuned.to_dict()}, json, lambda: _table(tuned, latency_ms))


def _table(tuned: Tuned, budget_ms: float) -> Lines:
    """Return a table of the finalists, fastest first, and below it the problems of other candidates."""
    table = Table(
        title=f"{len(tuned.finalists)} finalists of {tuned.tried}, budget {budget_ms:g} ms, AUROC on drawn defects",
        title_justify="left",
    )
    for column in ("", "candidate", "precision", "ms (p95)", "AUROC"):
        table.add_column(column)
    for one in sorted(tuned.finalists, key=lambda one: one.latency_ms):
        mark = "winner" if one is tuned.winner else "front" if one in tuned.front else ""
        table.add_row(mark, str(one.candidate), one.precision, f"{one.latency_ms:.2f}", f"{one.auroc:.4f}")
    return Lines(table, tuned.groups, *tuned.problems)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))
