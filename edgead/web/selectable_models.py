"""Models that a pipeline may be given over HTTP: those in the folder where its own lies."""

from __future__ import annotations

import os
from pathlib import Path

from edgead.errors import SettingsError


def models_beside(model: Path) -> list[str]:
    """Name the models in the folder of a model.

    Parameters
    ----------
    model : Path
        Directory of the model that the site file names.
    """
    folder = _folder(model)
    try:
        found = sorted(path.name for path in folder.iterdir() if os.path.isfile(path / "manifest.json"))
    except OSError as error:
        raise SettingsError(f"{folder}: cannot be listed: {error.strerror}") from None
    return [name for name in found if not name.startswith(".")]


def model_beside(model: Path, name: str) -> Path:
    """Find a model by its name.

    Raises
    ------
    SettingsError
        There is none of that name beside the pipeline's model, or it lies elsewhere behind a link.
    """
    known = models_beside(model)
    path = _folder(model) / name
    # By the listing, so that no name leads anywhere else; a link could still.
    if name not in known or path.resolve().parent != _folder(model):
        raise SettingsError(f"there is no model {name!r} beside {model.name}, known are {', '.join(known) or 'none'}")
    return path


def _folder(model: Path) -> Path:
    return model.absolute().parent.resolve()
