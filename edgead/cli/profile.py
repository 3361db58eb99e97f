"""Verb `profile`: measures latency, of frames one after the other or at a given rate."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgead.cli.app import Json, app, find_images, print_report
from edgead.cli.choices import Precision, Runtime
from edgead.cli.console import stderr
from edgead.errors import SettingsError

if TYPE_CHECKING:
    from edgead.process.real_time import Scheduling

Rate = Annotated[
    float | None,
    typer.Option(
        min=0, help="Frames a second that arrive at fixed times; without a rate, one frame directly after the other."
    ),
]
Jitter = Annotated[
    float, typer.Option(min=0, help="With --rate: standard deviation of the arrival times, in milliseconds.")
]
Duration = Annotated[float, typer.Option(min=0, help="With --rate: seconds to measure.")]
Deadline = Annotated[
    float | None,
    typer.Option(
        min=0, help="With --rate: longest time from arrival to verdict; by default the time between two frames."
    ),
]
Affinity = Annotated[str | None, typer.Option(help="CPU cores to run on, such as 0,1.")]
Fifo = Annotated[int | None, typer.Option(help="Real-time priority, SCHED_FIFO.")]


@app.command()
def profile(
    model: Annotated[Path | None, typer.Argument(help="Directory of a trained model.")] = None,
    images: Annotated[list[Path] | None, typer.Argument(help="Images to run; by default the golden images.")] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Without --rate: number of frames to measure.")] = 1000,
    warmup: Annotated[int, typer.Option(min=0, help="Number of frames to run before the measurement.")] = 50,
    rate: Rate = None,
    jitter: Jitter = 0.0,
    duration: Duration = 60.0,
    deadline_ms: Deadline = None,
    affinity: Affinity = None,
    fifo: Fifo = None,
    samples: Annotated[Path | None, typer.Option(help="CSV file for the times of every frame.")] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="A B", help="Two reports written with --json: print their ratios."),
    ] = None,
    share: Annotated[
        bool, typer.Option("--share", help="Print one row of Markdown for the documentation's table of boards.")
    ] = False,
    runtime: Runtime = "auto",
    precision: Precision = None,
    json: Json = False,
) -> None:
    """Measure the latency of every stage on this machine, or compare two reports."""
    if compare is not None:
        from edgead.profiling.compare import compare as divide
        from edgead.profiling.compare import comparison_table

        ratios = divide(*compare)
        print_report(ratios, json, lambda: comparison_table(ratios))
        return
    if model is None:
        raise SettingsError("name a model, or two reports with --compare A B")
    read_scheduling(affinity, fifo).take()  # before anything starts threads, which inherit it
    from edgead.detector import Detector
    from edgead.profiling.profiler import Pace
    from edgead.profiling.profiler import profile as measure

    pace = None if rate is None else Pace(rate, jitter, duration, deadline_ms)
    with Detector.load(model, runtime=runtime, precision=precision) as detector:
        golden = [detector.artifact.path / golden.image for golden in detector.graph.golden]
        frames = [detector.read_image(path) for path in (find_images(images) if images else golden)]
        # No moving bar: drawing one would be measured too.
        what = f"{duration:g} s at {rate:g} frames a second" if pace else f"{n} frames"
        stderr.print(f"measuring {what} after {warmup} frames to warm up")
        report = measure(detector, frames, warmup=warmup, n=n, pace=pace)
        height, width = detector.manifest.inputs[0].preprocessing.image_size
        graph = f"{detector.graph.precision}, {detector.runtime}"
        model_ran = f"{detector.manifest.detector} at {width} x {height} px, {graph}"
    if samples is not None:
        report.write_samples(samples)
    if share:
        print(report.shared_row(model_ran))
        return
    print_report(report.to_dict(), json, report.table)


def read_scheduling(affinity: str | None, fifo: int | None) -> Scheduling:
    """Parse the options --affinity and --fifo; with --affinity, also limit the kernels' threads to its cores."""
    from edgead import kernels
    from edgead.process.real_time import Scheduling, start_opencv_threads

    if fifo is not None or affinity is not None:
        start_opencv_threads()
    if affinity is None:
        return Scheduling(fifo)
    if not re.fullmatch(r"\d+(,\d+)*", affinity):
        raise SettingsError(f"affinity {affinity!r}: give numbers of cores, such as 0,1")
    cores = tuple(int(core) for core in affinity.split(","))
    kernels.set_threads(min(len(cores), kernels.threads()))
    return Scheduling(fifo, cores)
