"""Thresholds that a person set for a pipeline; they outlive a restart, and hold for one scorer (graph and arrays)."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path

from pydantic import RootModel, ValidationError

from edgead.artifact.folder import Artifact
from edgead.artifact.identity import scored_alike, scorer_sha256
from edgead.artifact.limits import Limits
from edgead.artifact.manifest import Calibration, Manifest, ThresholdChange
from edgead.calibration.blind import doubts
from edgead.calibration.conformal import share_above
from edgead.detector import Detector
from edgead.errors import SettingsError
from edgead.files.atomic import write_whole
from edgead.line.site.status import HeldOutScores

logger = logging.getLogger(__name__)


class ThresholdRecord(Limits):
    """Two thresholds with author, reason and time; a later calibration of the model replaces them."""

    by: str = ""
    reason: str = ""
    at: datetime | None = None

    def now(self) -> ThresholdRecord:
        """Return a copy with the current time."""
        return self.model_copy(update={"at": datetime.now(timezone.utc)})


def good_scores_of(detector: Detector) -> HeldOutScores:
    """Read the scores that a detector's thresholds were made from; raise SettingsError if it has no thresholds."""
    limits = _calibration_of(detector)
    levels = [-math.inf, *limits.scores]
    rates = [share_above(limits.scores, level, limits.groups) for level in levels]
    models = scored_alike(detector.artifact.path, detector.manifest, detector.graph.precision)
    return HeldOutScores(limits.typical, limits.scores, rates, models)


def doubts_of(detector: Detector, given: Limits, bad: Sequence[float] = ()) -> list[str]:
    """List reasons why a person's limits may pass defects that the present limits stop; empty if they are not higher.

    `bad` has the scores of the newest parts that people marked bad.
    """
    in_force = _calibration_of(detector)
    found = []
    if given.reject > in_force.reject:
        own = detector.artifact.graph(detector.graph.precision).calibration
        found += doubts(own or in_force, given.reject)
    escaping = sum(in_force.review < score <= given.review for score in bad)
    if escaping:
        found.append(f"{escaping} of the {len(bad)} newest parts that were marked bad would pass, and do not now")
    return found


def thresholds_of(detector: Detector) -> ThresholdRecord:
    """Read the thresholds that a detector judges by; raise SettingsError if it has none."""
    limits = _calibration_of(detector)
    return ThresholdRecord(review=limits.review, reject=limits.reject)


def _calibration_of(detector: Detector) -> Calibration:
    if detector.graph.calibration is None:
        raise SettingsError(f"{detector.artifact.path} has no thresholds")
    return detector.graph.calibration


class _Content(RootModel[dict[str, dict[str, ThresholdRecord]]]):
    """Thresholds of each pipeline, by scorer, as the file stores them."""


class KeptThresholds:
    """File of the thresholds that people set, of all pipelines; safe from any thread."""

    def __init__(self, file: Path):
        self._file = file
        self._lock = threading.Lock()

    def find(self, pipeline: str, scorer: str) -> ThresholdRecord | None:
        """Return a pipeline's thresholds for a scorer; None if it has none.

        Raises SettingsError: the file cannot be read; the model's own thresholds are no substitute, as a person has
            changed them.
        """
        with self._lock:
            return self._read().get(pipeline, {}).get(scorer)

    def keep(self, pipeline: str, scorer: str, thresholds: ThresholdRecord) -> None:
        """Write thresholds atomically: after a crash the file holds either the old or the new thresholds."""
        with self._lock:
            content = self._read()
            content.setdefault(pipeline, {})[scorer] = thresholds
            try:
                write_whole(self._file, _Content(content).model_dump_json(indent=1).encode())
            except OSError as error:
                raise SettingsError(f"{self._file} cannot be written: {error.strerror}") from error

    def _read(self) -> dict[str, dict[str, ThresholdRecord]]:
        try:
            return _Content.model_validate_json(self._file.read_bytes()).root
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is damaged"
            raise SettingsError(
                f"{self._file} cannot be read ({why}): repair it, or remove it to go by the model"
            ) from None


class PipelineThresholds:
    """Thresholds of one pipeline's detectors: set by a person, or by a later calibration."""

    def __init__(self, pipeline: str, kept: KeptThresholds):
        self._pipeline, self._kept = pipeline, kept
        self._superseded: tuple[str, ThresholdRecord, ThresholdRecord] | None = None  # by scorer

    def apply(self, detector: Detector) -> None:
        """Give a detector the thresholds that a person set for this pipeline, unless a calibration is newer.

        Raises SettingsError: the thresholds cannot be read.
        """
        self._superseded = None
        scorer = _scorer(detector)
        kept = self._kept.find(self._pipeline, scorer)
        if kept is None:
            return
        change = _last_change(detector.manifest, detector.graph.precision)
        if kept.at is not None and change is not None and change.changed_at > kept.at:
            now = thresholds_of(detector).model_copy(update={"by": change.author, "at": change.changed_at})
            self._superseded = scorer, kept, now
            text = f"{self._pipeline}: judges by the thresholds of a calibration, newer than those that {kept.by} set"
            logger.warning(text, extra={"pipeline": self._pipeline, **now.values()})
            return
        detector.set_thresholds(**kept.values())
        text = f"{self._pipeline}: judges by thresholds that {kept.by} set"
        logger.info(text, extra={"pipeline": self._pipeline, **kept.values()})

    def set(self, detector: Detector, thresholds: ThresholdRecord) -> None:
        """Store thresholds, and give them to a detector.

        Raises SettingsError: the thresholds cannot be stored; nothing changes then.
        """
        self._kept.keep(self._pipeline, _scorer(detector), thresholds.now())
        detector.set_thresholds(**thresholds.values())

    def carry(self, detector: Detector, taught: Artifact) -> None:
        """Store a person's thresholds for the model `taught` too, which a lesson made from the detector's model.

        The thresholds move by the difference between the two models' own reject limits.

        Raises SettingsError: the thresholds cannot be read, or stored.
        """
        precision = detector.graph.precision
        graph = taught.graph(precision)
        own, new = detector.artifact.graph(precision).calibration, graph.calibration
        kept = self._kept.find(self._pipeline, _scorer(detector))
        if kept is None or own is None or new is None or kept.values() == own.values():
            return
        by = new.reject - own.reject
        moved = kept.model_copy(update={name: limit + by for name, limit in kept.values().items()}).now()
        self._kept.keep(self._pipeline, f"{scorer_sha256(taught.manifest, precision)}/{precision}", moved)

    def settle_superseded(self, record: Callable[[ThresholdRecord, ThresholdRecord], None]) -> None:
        """Record that a calibration replaced a person's thresholds, and store the calibration's thresholds.

        If the program is killed between record and store, the next start records the change again.

        `record`: called with the person's thresholds and the calibration's, if `apply` has found that these are newer.
        """
        if self._superseded is not None:
            scorer, before, now = self._superseded
            self._superseded = None
            record(before, now)
            try:
                self._kept.keep(self._pipeline, scorer, now)
            except SettingsError as error:
                logger.error("%s: %s", self._pipeline, error, extra={"pipeline": self._pipeline})


def _last_change(manifest: Manifest, precision: str) -> ThresholdChange | None:
    """Return the last change of a graph's thresholds in the model itself; None if there was none."""
    changes = (change for change in manifest.threshold_changes if change.precision == precision)
    return max(changes, key=lambda change: change.changed_at, default=None)


def _scorer(detector: Detector) -> str:
    """Return the key of a detector's thresholds."""
    precision = detector.graph.precision
    return f"{scorer_sha256(detector.manifest, precision)}/{precision}"
