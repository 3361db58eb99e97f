"""Verb `cycle`: learns a machine's repeated motion from videos."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from edgead.cli.app import Json, Region, app, of_training, print_report, read_numbers, read_setting
from edgead.cli.console import facts_table, stage_bars, training_facts, warn
from edgead.errors import SettingsError

if TYPE_CHECKING:
    import numpy as np

AUTO = "auto"
# With fewer cycles, one undisturbed cycle in ten or more reaches the limit.
FEW_CYCLES = 10


@app.command()
def cycle(
    videos: Annotated[
        list[str], typer.Argument(help="Videos of the undisturbed machine, or folders of frames, in order.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory of the model to write.")],
    period: Annotated[
        str, typer.Option(help="Length of a cycle in seconds; auto finds it from the repetition in the videos.")
    ] = AUTO,
    fps: Annotated[
        float | None,
        typer.Option(min=0.001, help="Frames per second of the videos; by default the rate that each file states."),
    ] = None,
    roi: Region = None,
    image_size: Annotated[str | None, of_training("image_size", metavar="HEIGHT[,WIDTH]")] = None,
    false_reject_rate: Annotated[
        float | None,
        typer.Option(help="Share of undisturbed cycles that may be above the limit; by default as few as are shown."),
    ] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", help="Any other setting of the method, as NAME=VALUE; may be repeated.")
    ] = None,
    json: Json = False,
) -> None:
    """Learn a machine's repeated motion from videos, and write a calibrated model that judges frames in order."""
    from edgead.artifact.folder import check_destination
    from edgead.sources import open_source

    check_destination(output)
    found_fps = fps
    for video in videos:
        with closing(open_source(video)) as source:
            if source.live:
                raise SettingsError(f"{source.uri} is live, and a recording is read twice: record a video of it first")
            own_fps = float(getattr(source, "fps", 0.0))
        found_fps = found_fps or own_fps or None
    chosen = dict(map(read_setting, setting or []))
    if period != AUTO:
        chosen["period"] = _frames(period, found_fps)
    if image_size:
        chosen["image_size"] = read_numbers("--image-size", image_size, (1, 2), repeat=2)
    region = cast("tuple[int, int, int, int]", read_numbers("--roi", roi, (4,))) if roi else None

    from edgead.workstation.training.cycle import train_cycle

    with stage_bars() as progress:
        artifact = train_cycle(
            [partial(_images, video) for video in videos],
            output,
            chosen,
            roi=region,
            false_reject_rate=false_reject_rate,
            facts={"data": [Path(video).name for video in videos], **({"fps": found_fps} if found_fps else {})},
            progress=progress,
        )
    report = {"model": str(output), **training_facts(artifact)}
    if found_fps:
        report["period_seconds"] = report["period_frames"] / found_fps
    print_report(report, json, lambda: facts_table(str(output), report))
    warn(_warnings(report))


def _warnings(report: dict[str, Any]) -> Iterator[str]:
    count = report["cycles"]
    if count < FEW_CYCLES:
        yield (
            f"{count} cycles say little of how cycles differ: about one undisturbed cycle in {count + 1} has a frame "
            "above the limit; learn from 20 or more"
        )
    for place in report.get("odd_cycles", ()):
        yield f"{place} are unlike all other cycles: look whether the machine ran undisturbed there, or cut them out"


def _frames(period: str, fps: float | None) -> float:
    """Convert a period in seconds to frames."""
    try:
        seconds = float(period)
    except ValueError:
        raise SettingsError(f"--period {period!r}: give seconds, or auto") from None
    if fps is None:
        raise SettingsError("--period in seconds needs --fps: images in a folder do not say how fast they were taken")
    return seconds * fps


def _images(video: str) -> Iterator[np.ndarray]:
    from edgead.sources import open_source

    with closing(open_source(video)) as source:
        for frame in source:
            yield frame.image
