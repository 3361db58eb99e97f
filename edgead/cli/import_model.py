"""Verb `import`: turns a model of another tool into a finished one, with limits from good images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, cast

import typer

from edgead.cli.app import (
    FalseRejectRate,
    Group,
    Json,
    Region,
    ReviewRate,
    app,
    find_images,
    of_training,
    print_report,
    read_numbers,
)
from edgead.cli.choices import ColourOrder, LayoutName
from edgead.cli.console import edgead_command, facts_table, next_steps, stage_bars, stderr, warn
from edgead.errors import SettingsError

CHANNELS = 3


Graph = Annotated[Path, typer.Argument(help="Exported model of another tool: ONNX, or the .xml of an OpenVINO IR.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Directory of the model to write.")]
GoodOption = Annotated[
    Path,
    typer.Option(help="Folder of good images that the model has not learnt from."),
]
Learnt = Annotated[
    list[Path] | None,
    typer.Option(help="Images that the model has learnt from, or folders of them: no limit is made from them."),
]
Map = Annotated[str | None, typer.Option(help="Name of the output that is the anomaly map; none: it gives no map.")]
Score = Annotated[
    str | None,
    typer.Option(help="Name of the output that is the image score; none: the highest value of the map is the score."),
]
Colour = Annotated[ColourOrder | None, typer.Option(help="Order of the colours that the graph takes.")]
White = Annotated[
    float | None, typer.Option(help="Value of white before --mean is subtracted: 1, or 255.", min=1e-6, max=255)
]
Mean = Annotated[
    str | None, typer.Option(help="Subtracted from the values: one number, or one for each channel, with commas.")
]
Std = Annotated[str | None, typer.Option(help="What the values are divided by: one number, or one for each channel.")]
Size = Annotated[
    str | None,
    typer.Option(
        help="Size of the input, if the graph takes any: one number, or HEIGHT,WIDTH; by default as the images."
    ),
]
Layout = Annotated[LayoutName | None, typer.Option(help="Where the channels are, if the graph does not say.")]
NormalDir = Annotated[
    str | None, typer.Option(help="Folder of good images below --good, such as test/good of a data set.")
]
MmPerPixel = Annotated[float | None, of_training("mm_per_pixel", min=0)]
SkipBad = Annotated[bool, of_training("skip_bad", "--skip-bad")]


@app.command(name="import")
def import_(
    graph: Graph,
    output: Output,
    good: GoodOption,
    learnt: Learnt = None,
    map: Map = None,
    score: Score = None,
    colour: Colour = None,
    white: White = None,
    mean: Mean = None,
    std: Std = None,
    size: Size = None,
    layout: Layout = None,
    false_reject_rate: FalseRejectRate = None,
    review_rate: ReviewRate = None,
    normal_dir: NormalDir = None,
    group: Group = "auto",
    roi: Region = None,
    mm_per_pixel: MmPerPixel = None,
    skip_bad: SkipBad = False,
    json: Json = False,
) -> None:
    """Make a finished, calibrated model of a graph from another tool, such as anomalib.

    The graph keeps its own resizing and normalisation, and its scores. Nothing is learnt.
    """
    from edgead.export.foreign import check_format

    from edgead.calibration.conformal import check_rate

    check_format(graph)  # before torch is loaded, which takes seconds
    check_rate(false_reject_rate, "false-reject rate")
    check_rate(review_rate, "review rate")
    from edgead.export.import_model import Good, ImportSettings, import_model

    region = cast("tuple[int, int, int, int]", read_numbers("--roi", roi, (4,))) if roi else None
    sides = cast("tuple[int, int]", read_numbers("--size", size, (1, 2), repeat=2)) if size else None
    asked = ImportSettings(
        {"map": map, "score": score},
        colour,
        layout,
        white,
        _per_channel("--mean", mean),
        _per_channel("--std", std),
        sides,
    )
    images = Good(good, normal_dir, group, false_reject_rate, review_rate, skip_bad, region, mm_per_pixel)
    images = replace(images, learnt=find_images(learnt or []))
    with stage_bars() as progress:
        artifact, problems = import_model(graph, output, images, asked, progress=progress)
    calibration = artifact.graph().calibration
    assert calibration is not None
    training = artifact.manifest.training
    report = {
        "model": str(output),
        **training["imported"],
        "calibration_images": training["calibration_images"],
        "groups": training["groups"]["account"],
        "skipped": problems,
        "false_reject_rate": calibration.false_reject_rate,
        "threshold": calibration.reject,
        "review_threshold": calibration.review,
    }
    print_report(report, json, lambda: facts_table(str(output), report))
    if not json:
        stderr.print(
            f"The limit holds if the model has not learnt from the {training['calibration_images']} good images.",
            soft_wrap=True,
        )
        if "batch" in report:
            said = (
                f"the graph takes batches of {report['batch']} images and no fewer: each frame is computed "
                f"{report['batch']} times. Export it with a batch of 1, with anomalib by "
                "`model.to_onnx(FOLDER, dynamic_axes={'input': {2: 'height', 3: 'width'}})`"
            )
            warn([said])
        steps = [(edgead_command("verify", output), "checks the finished model")]
        steps.append((edgead_command("predict", output, "IMAGES", "--heat-maps", "maps"), "judges images"))
        print(*next_steps(*steps), sep="\n")


def _per_channel(option: str, text: str | None) -> tuple[float, ...]:
    """Parse one number for all channels, or one for each."""
    if text is None:
        return ()
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, CHANNELS):
        raise SettingsError(f"{option} {text!r}: give one number, or {CHANNELS} with commas")
    return numbers * CHANNELS if len(numbers) == 1 else numbers
