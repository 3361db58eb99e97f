"""Scores of marked parts by the model in service; images that another model has judged are scored again."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import TYPE_CHECKING

from edgead.detector import Detector
from edgead.errors import EdgeadError
from edgead.line.daemon.active_model import ActiveModel
from edgead.line.daemon.thresholds import good_scores_of
from edgead.line.site.status import MarkedScores
from edgead.types import Opinion

if TYPE_CHECKING:
    from edgead.line.evidence import EvidenceStore

logger = logging.getLogger(__name__)

MOST = 100  # parts marked good, and as many marked bad


class MarkedScorer:
    """Scorer of the newest marked parts of a pipeline, without parts of `recipes`; safe from any thread."""

    def __init__(self, pipeline: str, recipes: Collection[str], slot: ActiveModel, store: EvidenceStore):
        self._pipeline, self._recipes, self._slot, self._store = pipeline, recipes, slot, store
        self._again: dict[tuple[str, str], float] = {}  # by id and model

    def scores(self) -> MarkedScores:
        """Score these parts by the model in service, between two frames; raise SettingsError if there is no model."""
        detector = self._slot.require()
        alike = good_scores_of(detector).models
        found: dict[Opinion, list[float]] = {"good": [], "bad": []}
        unknown = 0
        for mark, scores in found.items():
            for row in self._store.verdicts(pipeline=self._pipeline, mark=mark, limit=MOST):
                if row["recipe"] in self._recipes:
                    continue
                score = row["image_score"] if row["model"] in alike else self._scored_again(row["id"], detector)
                if score is not None:
                    scores.append(score)
                else:
                    unknown += mark == "bad"
        return MarkedScores(found["good"], found["bad"], unknown)

    def _scored_again(self, id: str, detector: Detector) -> float | None:
        path = self._store.frame(id, self._pipeline)
        key = id, detector.manifest.manifest_sha256
        if path is not None and key not in self._again:
            try:
                self._again[key] = self._slot.measure(detector.read_image(path)).image_score
            except EdgeadError as error:  # damaged, or of another size
                logger.warning("%s: %s is not scored again: %s", self._pipeline, path, error)
            while len(self._again) > 2 * MOST:
                self._again.pop(next(iter(self._again)))
        return self._again.get(key)
