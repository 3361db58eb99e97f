"""Current models of pipelines with `commissioned: true`, remembered over restarts."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from pydantic import BaseModel, RootModel, ValidationError

from edgead.files.atomic import write_whole

logger = logging.getLogger(__name__)


class _Kept(BaseModel):
    site: Path
    """Model of the site file at that time: if the file names another one later, that counts."""
    model: Path


class _Content(RootModel[dict[str, _Kept]]):
    """Current model of each pipeline, as the file stores it."""


class KeptModels:
    """File that remembers the current model of each pipeline; safe from any thread."""

    def __init__(self, file: Path):
        self._file = file
        self._lock = threading.Lock()

    def find(self, pipeline: str, site: Path) -> Path | None:
        """Return the model that judged last; None if none is known, or the site file names another model since.

        `site`: the model that the site file names.
        """
        with self._lock:
            kept = self._read().get(pipeline)
        return kept.model if kept is not None and kept.site == site else None

    def keep(self, pipeline: str, site: Path, model: Path) -> None:
        """Store the model that judges now; a failed write is logged, and shows only after a restart."""
        with self._lock:
            content = _Content({**self._read(), pipeline: _Kept(site=site, model=model)})
            try:
                write_whole(self._file, content.model_dump_json(indent=1).encode())
            except OSError as error:
                text = "%s: after a restart another model judges: %s cannot be written: %s"
                logger.error(text, pipeline, self._file, error.strerror or error, extra={"pipeline": pipeline})

    def _read(self) -> dict[str, _Kept]:
        try:
            return _Content.model_validate_json(self._file.read_bytes()).root
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError) as error:
            logger.error("%s cannot be read, the models of the site file judge: %s", self._file, error)
            return {}
