"""Thresholds that a person set for a pipeline; they outlive a restart, and belong to what makes the scores."""

from __future__ import annotations

import json
import threading
from datetime import datetime, timezone
from pathlib import Path

from pydantic import RootModel, ValidationError

from edgead.artifact.limits import Limits
from edgead.artifact.manifest import Manifest, ThresholdChange
from edgead.errors import SettingsError
from edgead.files.atomic import write_whole


class Thresholds(Limits):
    """Two thresholds, who set them and when: where a model has been calibrated since, the newer ones are in force."""

    by: str = ""
    at: datetime | None = None

    def now(self) -> Thresholds:
        """Stamp them with the time of now."""
        return self.model_copy(update={"at": datetime.now(timezone.utc)})


def last_change(manifest: Manifest, precision: str) -> ThresholdChange | None:
    """Find the last change of a graph's thresholds in the model itself; None where they never were changed."""
    changes = (change for change in manifest.threshold_changes if change.precision == precision)
    return max(changes, key=lambda change: change.changed_at, default=None)


class _Content(RootModel[dict[str, dict[str, Thresholds]]]):
    """Pipeline -> scorer -> thresholds."""


class KeptThresholds:
    """The file of them; used by all pipelines, from any thread."""

    def __init__(self, file: Path):
        self._file = file
        self._lock = threading.Lock()

    def find(self, pipeline: str, *scorers: str) -> Thresholds | None:
        """Look up what was set in a pipeline for the first of some names of a scorer; None where nothing was.

        Raises
        ------
        SettingsError
            The file cannot be read: judging by thresholds that someone has changed for a reason would be wrong.
        """
        with self._lock:
            of_pipeline = self._read().get(pipeline, {})
        return next((of_pipeline[name] for name in scorers if name in of_pipeline), None)

    def keep(self, pipeline: str, scorer: str, thresholds: Thresholds) -> None:
        """Write thresholds; after a crash the file holds the old ones or these."""
        with self._lock:
            content = self._read()
            content.setdefault(pipeline, {})[scorer] = thresholds
            self._write(_Content(content).model_dump(mode="json"))

    def _read(self) -> dict[str, dict[str, Thresholds]]:
        try:
            return _Content.model_validate_json(self._file.read_bytes()).root
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is damaged"
            raise SettingsError(
                f"{self._file} cannot be read ({why}): repair it, or remove it to go by the model"
            ) from None

    def _write(self, content: dict) -> None:
        try:
            write_whole(self._file, json.dumps(content, indent=1).encode())
        except OSError as error:
            raise SettingsError(f"{self._file} cannot be written: {error.strerror}") from error
