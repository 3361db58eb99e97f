"""Folder of a screening's result for people: a contact sheet, a table, and a page on its limits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgead.artifact.manifest import Preprocessing
from edgead.artifact.preprocess import covered
from edgead.files.atomic import new_folder, write_whole
from edgead.files.disk import writing
from edgead.files.table import write_csv
from edgead.images.files import load_image, write_image
from edgead.images.overlay import draw_heat
from edgead.images.sheet import Tile, band_sheet
from edgead.types import StageTimes, Verdict
from edgead.unlabelled.screening.run import ENOUGH_PARTS, Screened, ScreenedImage
from edgead.unlabelled.screening.screeners import MUTUAL
from edgead.unlabelled.sorting.folders import check_folder

SHEET, TABLE, LIMITS = "sheet.jpg", "ranking.csv", "limits.txt"
_COLUMNS = ("rank", "image", "score", "part")
_WORST, _HARMLESS = 32, 8
_TILE_PX = 220
_LEGEND = "colours show where a part differs from what most others have; a dashed ring marks its highest place"


def write_screened(found: Screened, folder: Path) -> None:
    """Write the sheet, the table and the page on limits; the folder is complete or absent.

    `folder`: empty or absent folder.
    """
    check_folder(folder)
    with writing(folder), new_folder(folder) as draft:
        write_image(draft / SHEET, _sheet(found))
        rows = (
            {"rank": rank, "image": str(one.path), "score": one.score, "part": one.part}
            for rank, one in enumerate(found.images, 1)
        )
        write_csv(draft / TABLE, _COLUMNS, rows)
        write_whole(draft / LIMITS, limits_page(found).encode(), durable=False)


def limits_page(found: Screened) -> str:
    """Write one page of text: what was done, and what a ranking of unlabelled images cannot tell."""
    rule, count = found.plan.rule, len(found.images)
    closer = "--roi and --zoom show more." if found.plan.method == MUTUAL else "--roi shows more."
    of_a_part = "say nothing of each other" if found.scorer.knows_parts else "count as different parts"
    paragraphs = [
        f"{count} images of one pile were compared with each other. {found.groups.account}.",
        "The score of an image says how far its most unusual places are from what other parts show at any place. It "
        "is high for what is rare in this pile. It is no verdict: no part was known to be good, there is no "
        "threshold, and scores of two piles cannot be compared.",
        "What the ranking cannot know:",
        f"- A defect that most parts have. What more than about {rule.interval:.0%} of the parts share is normal here, "
        "be it a scratch of the fixture on every part or a wrong batch of material.",
        "- How many parts are defective. There is always a first and a last one, also in a pile without a defect, and "
        "in a pile of nothing else.",
        "- Whether what is rare is bad. A stamp, a fingerprint, another light or another variant is as rare as a "
        "defect. Screen variants one by one.",
        "- What the features do not show: defects smaller than a few pixels of the network's input, and what only a "
        f"measurement shows. {closer}",
        "- What is missing or in the wrong place, where the same thing is normal elsewhere: places are not compared.",
        f"- Much, from a few parts: this pile has {found.groups.count}, and below {ENOUGH_PARTS} chance decides much. "
        f"Images that show the same part {of_a_part}.",
        "What to do with it: look at the first ones in the table; those that are good show what is normal. Train "
        "a model from parts that you have seen to be good.",
    ]
    return "\n\n".join(paragraphs) + "\n"


def _sheet(found: Screened) -> np.ndarray:
    scale = _scale(found)
    images = found.images
    worst, least = images[:_WORST], images[max(_WORST, len(images) - _HARMLESS) :]
    bands = [
        (f"the {len(worst)} most suspicious", [_tile(one, found.scorer.preprocessing, scale) for one in worst]),
        (f"the {len(least)} least suspicious", [_tile(one, found.scorer.preprocessing, scale) for one in least]),
    ]
    title = f"{len(images)} images of a pile, ranked by comparing them with each other"
    return band_sheet((title, _LEGEND), bands, columns=_HARMLESS, tile_px=_TILE_PX)


def _scale(found: Screened) -> tuple[float, float]:
    """Compute the scores that anchor the colours: of a typical patch, and of a typical image's highest patch."""
    maps = [one.patch_scores for one in found.images]
    return float(np.median([np.median(each) for each in maps])), float(np.median([each.max() for each in maps]))


def _tile(one: ScreenedImage, spec: Preprocessing, scale: tuple[float, float]) -> Tile:
    image, (typical, usual_peak) = load_image(one.path), scale
    seen = _seen(one.patch_scores, spec, image.shape)
    no_times = StageTimes(0, 0, 0, 0)
    verdict = Verdict(one.score, "review", seen, usual_peak, usual_peak, (), no_times, spec.roi, typical)
    return draw_heat(image, verdict), one.path.name


def _seen(patch_scores: np.ndarray, spec: Preprocessing, shape: tuple[int, ...]) -> np.ndarray:
    """Crop the patches that show the image, without padding."""
    sides = zip(covered(spec, shape), spec.image_size, patch_scores.shape, strict=True)
    return patch_scores[tuple(slice(side.start * n // full, -(-side.stop * n // full)) for side, full, n in sides)]
