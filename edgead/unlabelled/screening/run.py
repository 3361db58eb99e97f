"""Ranking of unlabelled images by suspicion."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgead.dataset.folders import StageProgress, check_images, common_folder, no_progress
from edgead.dataset.groups import NONE, Groups, group_images
from edgead.errors import SettingsError
from edgead.unlabelled.screening.mutual import FEWEST_PARTS, MAX_IMAGES
from edgead.unlabelled.screening.screeners import PileScorer, ScreenPlan

# With fewer images the quality of the ranking varies much between sets: 0.37 to 0.89 with 50 images of tiles.
ENOUGH_PARTS = 100


@dataclass(frozen=True, slots=True)
class ScreenedImage:
    """Ranked image: its score, the part that it shows, and the scores of its patches, float32 (h, w)."""

    path: Path
    score: float
    part: int
    patch_scores: np.ndarray


@dataclass(frozen=True, slots=True)
class Screened:
    """Ranking of unlabelled images.

    `images`: ranked images, the most suspicious first.
    `groups`: groups of images that show the same part.
    `scorer`: method used; its `preprocessing` makes the backbone's input, without zoom.
    `problems`: messages on images that could not be read.
    """

    images: list[ScreenedImage]
    groups: Groups
    plan: ScreenPlan
    scorer: PileScorer
    problems: list[str]

    def warnings(self) -> list[str]:
        """List warnings on what impairs the ranking."""
        if self.groups.count >= ENOUGH_PARTS:
            return []
        return [
            f"{self.groups.count} parts are few: how well defects are ranked varies much from pile to pile; "
            f"{ENOUGH_PARTS} are better"
        ]

    def to_dict(self) -> dict[str, Any]:
        """Convert the ranking to values for JSON."""
        return {
            "screened": len(self.images),
            "parts": self.groups.account,
            "ranking": [{"image": str(one.path), "score": one.score, "part": one.part} for one in self.images],
            "warnings": self.warnings(),
            "problems": self.problems,
        }


def screen(paths: Sequence[Path], plan: ScreenPlan | None = None, *, progress: StageProgress = no_progress) -> Screened:
    """Rank unlabelled images by how far each is from most others.

    The result does not depend on the order of the images, to the last digit.

    `paths`: images of good and defective parts of one product. Unreadable ones are left out.
    Raises SettingsError, ArtifactError: the backbone cannot be used, or the images show fewer than three parts.
    Raises DatasetError: no image can be read, or the region is not inside one.
    """
    plan = plan or ScreenPlan()
    scorer = plan.open()
    ordered, problems = in_own_order(paths, plan, progress)
    groups = group_images(sorted(ordered), plan.group if scorer.knows_parts else NONE, common_folder(ordered))
    return Screened(rank(ordered, groups, scorer, progress), groups, plan, scorer, problems)


def rank(ordered: Sequence[Path], groups: Groups, scorer: PileScorer, progress: StageProgress) -> list[ScreenedImage]:
    """Score images given in the order of `in_own_order`; return them with the most suspicious first."""
    images = [
        one
        for number, pile in enumerate(_piles(ordered))
        for one in _screen_pile(pile, groups, scorer, partial(_of_pile, progress, number))
    ]
    return sorted(images, key=lambda one: -one.score)


def in_own_order(paths: Sequence[Path], plan: ScreenPlan, progress: StageProgress) -> tuple[list[Path], list[str]]:
    """Sort images by content, so that their given order does not matter; return messages on unreadable ones too."""
    content: dict[Path, bytes] = {}

    def look(path: Path, image: np.ndarray) -> None:
        content[path] = hashlib.sha256(repr(image.shape).encode() + np.ascontiguousarray(image).tobytes()).digest()

    different = list(dict.fromkeys(paths))
    usable, problems, _ = check_images(
        different, roi=plan.roi, skip_bad=True, look=look, progress=partial(progress, "read images")
    )
    return sorted(usable, key=lambda path: (content[path], str(path))), problems


def _piles(ordered: Sequence[Path]) -> Iterator[Sequence[Path]]:
    """Split many images into as few batches of about equal size as needed."""
    count = -(-len(ordered) // MAX_IMAGES)
    return (ordered[first::count] for first in range(count))


def _screen_pile(
    paths: Sequence[Path], groups: Groups, scorer: PileScorer, progress: StageProgress
) -> list[ScreenedImage]:
    parts = groups.of(paths)
    if len(set(parts)) < FEWEST_PARTS:
        raise SettingsError(
            f"{len(paths)} images of {len(set(parts))} parts cannot be compared with each other: give images of at "
            f"least {FEWEST_PARTS} parts, or say with --group which images show the same part"
        )
    scores, maps = scorer(paths, parts, progress)
    rows = zip(paths, scores.tolist(), parts, maps, strict=True)
    return [ScreenedImage(*row) for row in rows]


def _of_pile(progress: StageProgress, number: int, stage: str, done: int, total: int) -> None:
    progress(f"{stage} {number + 1}" if number else stage, done, total)
