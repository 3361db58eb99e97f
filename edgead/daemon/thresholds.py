"""Thresholds that were changed on the device; they outlive a restart, and each belongs to one model."""

from __future__ import annotations

import json
import threading
from datetime import datetime, timezone
from pathlib import Path

from pydantic import BaseModel, ConfigDict, RootModel, ValidationError, model_validator

from edgead.errors import SettingsError
from edgead.files.atomic import write_whole


class Thresholds(BaseModel):
    """Two thresholds; who set them and when is for people only."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    review: float
    reject: float
    by: str = ""
    at: datetime | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Thresholds:
        if self.review > self.reject:
            raise ValueError(f"review ({self.review:g}) lies above reject ({self.reject:g})")
        return self

    @classmethod
    def checked(cls, *, review: float, reject: float, by: str) -> Thresholds:
        """Make thresholds of what a person gave.

        Raises
        ------
        SettingsError
            They are not finite, or review lies above reject.
        """
        try:
            return cls(review=review, reject=reject, by=by)
        except ValidationError as error:
            found = error.errors()[0]
            raise SettingsError(f"thresholds: {found['msg'].removeprefix('Value error, ')}") from None

    def values(self) -> dict[str, float]:
        return {"review": self.review, "reject": self.reject}


class _Content(RootModel[dict[str, dict[str, Thresholds]]]):
    """Pipeline -> model -> thresholds."""


class KeptThresholds:
    """The file of them; used by all pipelines, from any thread."""

    def __init__(self, file: Path):
        self._file = file
        self._lock = threading.Lock()

    def find(self, pipeline: str, model: str) -> Thresholds | None:
        """Look up what was set for a model in a pipeline; None where nothing was.

        Raises
        ------
        SettingsError
            The file cannot be read: judging by thresholds that someone has changed for a reason would be wrong.
        """
        with self._lock:
            return self._read().get(pipeline, {}).get(model)

    def keep(self, pipeline: str, model: str, thresholds: Thresholds) -> None:
        """Write thresholds; after a crash the file holds the old ones or these."""
        stamped = thresholds.model_copy(update={"at": datetime.now(timezone.utc)})
        with self._lock:
            content = self._read()
            content.setdefault(pipeline, {})[model] = stamped
            self._write(_Content(content).model_dump(mode="json"))

    def _read(self) -> dict[str, dict[str, Thresholds]]:
        try:
            return _Content.model_validate_json(self._file.read_bytes()).root
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is damaged"
            raise SettingsError(
                f"{self._file} cannot be read ({why}): mend it, or remove it to go by the model"
            ) from None

    def _write(self, content: dict) -> None:
        try:
            write_whole(self._file, json.dumps(content, indent=1).encode())
        except OSError as error:
            raise SettingsError(f"{self._file} cannot be written: {error.strerror}") from error
