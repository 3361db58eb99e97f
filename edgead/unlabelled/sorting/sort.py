"""Sorting of unlabelled rejects into kinds: judgement, description, and clustering by part."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from edgead.components.added import Added
from edgead.dataset.folders import StageProgress, no_progress
from edgead.dataset.groups import AUTO, group_images
from edgead.detector import Detector
from edgead.detector.known_kinds import to_find
from edgead.errors import SettingsError
from edgead.unlabelled.sorting.clusters import Clusters, find_clusters
from edgead.unlabelled.sorting.describe import ImageProblem, ScoredImage, describe_images

RESIDUALS = "residuals"
_RANK_WEIGHT = 0.2

Announce = Callable[[str], None]
"""Function that is called with a message before a long step begins."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SortPlan:
    """Settings of a sorting.

    Attributes
    ----------
    count : int, optional
        Number of kinds; by default the largest stable one, see `find_clusters`.
    everything : bool
        Sort images that are judged ok too.
    group : str
        Rule by which images show the same part, see `edgead.dataset.groups.group_images`.
    seed : int
    method : str
        Name in `SORTERS`; "residuals" sorts by the differences of rejects from the nearest good patches.
    settings : mapping of str to object
        Settings for a method of a package, as plain JSON types.
    """

    count: int | None = None
    everything: bool = False
    group: str = AUTO
    seed: int = 0
    method: str = RESIDUALS
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sorted:
    """Result of a sorting.

    `clusters.labels` has the kind of each image, `parts` the number of its part, and `account` says how parts were
    found. `ok` are images judged ok, which were not sorted; `problems` are images that cannot be judged.
    """

    images: list[ScoredImage] = field(repr=False)
    clusters: Clusters = field(repr=False)
    parts: list[int] = field(repr=False)
    account: str
    ok: list[ScoredImage] = field(repr=False)
    problems: list[ImageProblem]

    def of_kind(self, number: int) -> list[ScoredImage]:
        """List the images of a kind, the most typical first: one of each part, then the others."""
        members = np.flatnonzero(self.clusters.labels == number)
        nearest = members[self.clusters.distances[members].argsort(kind="stable")]
        seen: Counter[int] = Counter()
        turns = []
        for i in nearest:
            turns.append(seen[self.parts[i]])
            seen[self.parts[i]] += 1
        return [self.images[nearest[i]] for i in np.argsort(turns, kind="stable")]

    def pareto(self) -> list[dict[str, Any]]:
        """List the kinds, the largest first: images, parts, share, cumulated share, stability, whether it is clear."""
        rows, before = [], 0
        for number, stability in enumerate(self.clusters.stability):
            members = np.flatnonzero(self.clusters.labels == number)
            before += len(members)
            rows.append(
                {
                    "kind": default_name(number),
                    "folder": folder_name(number),
                    "images": len(members),
                    "parts": len({self.parts[i] for i in members}),
                    "share": len(members) / len(self.images),
                    "cumulative": before / len(self.images),
                    "stability": stability,
                    "clear": self.clusters.clear[number],
                }
            )
        return rows

    def to_dict(self) -> dict[str, Any]:
        """Convert the result to values for JSON."""
        return {
            "sorted": len(self.images),
            "ok": len(self.ok),
            "parts": self.account,
            "kinds": self.pareto(),
            "agreement": {str(count): found for count, found in self.clusters.agreement.items()},
            "notes": list(self.clusters.notes),
            "problems": [{"image": str(one.path), "problem": one.text} for one in self.problems],
        }


def folder_name(number: int) -> str:
    """Return the folder name of a kind, numbered from 0."""
    return f"kind-{number + 1:02d}"


def default_name(number: int) -> str:
    """Return the default name of a kind, numbered from 0."""
    return f"kind {number + 1}"


def rows_of(images: Sequence[ScoredImage]) -> np.ndarray:
    """Make the rows to cluster: the descriptors of images with the rank of their scores, float32 (images, n).

    Ranks are scaled to a standard deviation of 0.2, a value that was chosen on one split of the magnetic tiles.
    """
    ranks = np.argsort(np.argsort([one.image_score for one in images], kind="stable"), kind="stable")
    spread = _RANK_WEIGHT * 12**0.5 * (ranks / max(len(images) - 1, 1) - 0.5)
    return np.column_stack([to_find(np.array([one.descriptor for one in images])), spread]).astype(np.float32)


class Sorter(Protocol):
    """Sorting method, which first judges images and then clusters some of them.

    A package adds one by `[project.entry-points."edgead.sorters"]` with `NAME = "module:Class"`; the class takes a plan
    and `announce`, and raises SettingsError if it does not support the plan.
    """

    def judge(
        self, detector: Detector, paths: Sequence[Path], progress: StageProgress
    ) -> tuple[list[ScoredImage], list[ImageProblem]]: ...
    def cluster(self, images: Sequence[ScoredImage], parts: Sequence[int], progress: StageProgress) -> Clusters: ...


class ResidualSorter:
    """Sorting by the differences of rejects from the nearest good patches."""

    def __init__(self, plan: SortPlan, announce: Announce):
        del announce  # not used, as the method takes only seconds
        if plan.settings:
            raise SettingsError(f"{RESIDUALS} has no settings: leave out {', '.join(plan.settings)}")
        self._plan = plan

    def judge(
        self, detector: Detector, paths: Sequence[Path], progress: StageProgress
    ) -> tuple[list[ScoredImage], list[ImageProblem]]:
        """Judge and describe images."""
        return describe_images(detector, paths, partial(progress, "judge images"))

    def cluster(self, images: Sequence[ScoredImage], parts: Sequence[int], progress: StageProgress) -> Clusters:
        """Cluster the images by part, see `find_clusters`."""
        return find_clusters(rows_of(images), parts, self._plan.count, seed=self._plan.seed)


SORTERS: Added[Callable[[SortPlan, Announce], Sorter]] = Added(
    "edgead.sorters", "method of sorting", {RESIDUALS: "edgead.unlabelled.sorting.sort:ResidualSorter"}
)


def sort_images(
    detector: Detector,
    paths: Sequence[Path],
    plan: SortPlan,
    *,
    announce: Announce = logger.info,
    progress: StageProgress = no_progress,
) -> Sorted:
    """Sort images that a detector rejects or sends to review into kinds.

    Raises SettingsError: the method is unknown or its settings are wrong, the model cannot describe images, none is
        rejected, there are fewer images than kinds, or too many.
    """
    sorter = SORTERS.find(plan.method)(plan, announce)
    judged, problems = sorter.judge(detector, paths, progress)
    chosen = [one for one in judged if plan.everything or one.decision != "ok"]
    if not chosen:
        raise SettingsError(
            f"none of {len(judged)} images is rejected or sent to review, so there is nothing to sort: give images of "
            "rejects, or ask for images that are ok to be sorted too"
        )
    groups = group_images([one.path for one in chosen], plan.group)
    parts = groups.of(one.path for one in chosen)
    clusters = sorter.cluster(chosen, parts, progress)
    ok = [one for one in judged if not plan.everything and one.decision == "ok"]
    return Sorted(chosen, clusters, parts, groups.account, ok, problems)
