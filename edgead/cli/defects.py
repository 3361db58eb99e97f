"""Verb `defects`: makes defects."""

from __future__ import annotations

import sys
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from edgead.cli.app import Group, Json, Seed, app, print_report, read_setting
from edgead.cli.choices import MakingMethod, PluginSettings
from edgead.cli.console import facts_table, stage_bars, stderr
from edgead.dataset.folders import resize_map
from edgead.errors import SettingsError
from edgead.images.files import list_images
from edgead.images.volumes import volume_of

if TYPE_CHECKING:
    from edgead.detector import Detector
    from edgead.synthetic.rejects import RealDefect


@app.command()
def defects(
    good: Annotated[
        Path, typer.Argument(help="Folder of images of good parts; best are images that the model was not trained on.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="New folder for the images with made defects.")],
    rejects: Annotated[
        Path | None,
        typer.Option("--from", help="Folder of real rejects, FOLDER/KIND/*.png, which a plug-in's method learns from."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Number of images to make, divided evenly among the kinds.")] = 300,
    masks: Annotated[
        Path | None,
        typer.Option(
            help="Masks of the rejects, MASKS/KIND/NAME_mask.png; by default the folder ground_truth in or beside "
            "FOLDER."
        ),
    ] = None,
    boxes: Annotated[
        Path | None, typer.Option(help="File of verdicts with boxes around the defects, as the sink jsonl writes it.")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="Model that locates the defects: the places where its heat map is above its threshold."),
    ] = None,
    where: Annotated[
        Path | None,
        typer.Option(help="Mask of the places where defects may be; by default near their places on the rejects."),
    ] = None,
    method: MakingMethod = "drawn",
    setting: PluginSettings = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Start a long computation without asking.")] = False,
    group: Group = "auto",
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Make defects on images of good parts, with masks; `edgead train --detector draem` may learn from them."""
    from edgead.synthetic.made_set import Recipe, make_defects
    from edgead.synthetic.makers import MAKERS, OWN

    recipe = Recipe(count, method, where, group, seed)
    find = None if method in OWN else MAKERS.find(method)
    if setting and find is None:
        raise SettingsError(f"--set: {method} has no settings, leave it out")
    if method == "drawn" and rejects is not None:
        raise SettingsError("drawn defects come of no rejects: leave --from out, or choose another --method")
    parts = list_images(good)
    if any(map(volume_of, parts)):
        raise SettingsError("defects are put onto 8-bit images in files of their own, not onto slices of volumes")
    real = [] if rejects is None else _marked(rejects, masks, boxes, model)
    maker = None if find is None else find(dict(map(read_setting, setting or [])), recipe, real)
    if maker is not None:
        _agree(maker.cost, yes)
    with stage_bars() as progress:
        if maker is None:
            made = make_defects(parts, real, output, recipe, progress=partial(progress, "make defects"))
        else:
            made = maker.make(parts, output, progress)
    report = {
        "made": str(output),
        "method": made.method,
        "images": len(made.images),
        "kinds": dict(sorted(Counter(image.kind for image in made.images).items())),
        "rejects": len(made.rejects),
        "groups_of_rejects": len({reject.group for reject in made.rejects}),
        "rejects_without_a_marked_defect": len(real) - len(made.rejects),
        "images_without_a_defect": count - len(made.images),
        "good_parts": len({image.good for image in made.images}),
        "seed": made.seed,
    }
    print_report(report, json, lambda: facts_table(str(output), report))


def _agree(cost: str, yes: bool) -> None:
    """Ask for consent to a long computation."""
    if cost and not yes and not sys.stdin.isatty():
        raise SettingsError(f"{cost}; --yes waits for it")
    if cost:
        stderr.print(cost, soft_wrap=True)
        if not yes:
            typer.confirm("Wait for it?", abort=True, err=True)


def _marked(folder: Path, masks: Path | None, boxes: Path | None, model: Path | None) -> list[RealDefect]:
    from edgead.synthetic.rejects import RealDefect, by_boxes, by_masks, find_rejects, masks_beside

    if sum(given is not None for given in (masks, boxes, model)) > 1:
        raise SettingsError("--masks, --boxes and --model each say where the defects are: give one of them")
    found = find_rejects(folder)
    if boxes is not None:
        return by_boxes(found, boxes)
    if model is not None:
        from edgead.detector import Detector

        mark = partial(_above_threshold, Detector.load(model))
        return [RealDefect(path, kind, mark, "map") for path, kind in found]
    beside = masks or masks_beside(folder)
    if beside is None:
        raise SettingsError(f"where are the defects on the images in {folder}? Give --masks, --boxes or --model")
    return by_masks(found, beside)


def _above_threshold(detector: Detector, path: Path, image: np.ndarray) -> np.ndarray:
    """Mark the places where the heat map is above its threshold, bool (H, W)."""
    verdict = detector.predict(image)
    x, y, width, height = verdict.region or (0, 0, image.shape[1], image.shape[0])
    mask = np.zeros(image.shape[:2], bool)
    mask[y : y + height, x : x + width] = resize_map(verdict.anomaly_map, (height, width)) > verdict.map_threshold
    return mask
