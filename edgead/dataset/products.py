"""Folders of several products below one: named by a pattern, never guessed, for a folder of defects may lie beside."""

from __future__ import annotations

from glob import glob
from pathlib import Path

from edgead.dataset.errors import DatasetError
from edgead.dataset.groups import AUTO, FOLDERS
from edgead.images.files import list_images, natural_key


def is_pattern(normal_dir: str | None) -> bool:
    """Whether it names folders of several products."""
    return normal_dir is not None and any(sign in normal_dir for sign in "*?[")


def rule_of(group: str, normal_dir: str | None) -> str:
    """Which images belong together, where that was not asked for: those of several products are looked at apart."""
    return FOLDERS if group == AUTO and is_pattern(normal_dir) else group


def find_images(data: Path, pattern: str) -> list[Path]:
    """List the images of every folder below `data` that matches, folder by folder.

    Raises
    ------
    DatasetError
        No folder matches.
    ImageError
        One that matches holds no images.
    """
    folders = sorted(filter(Path.is_dir, map(data.joinpath, glob(pattern, root_dir=data))), key=natural_key)
    if not folders:
        raise DatasetError(f"no folder of {data} matches {pattern}; it holds {contents(data)}")
    return [path for folder in folders for path in list_images(folder)]


def contents(data: Path) -> str:
    """What a folder holds, for a message: the first names."""
    return ", ".join(sorted(entry.name + "/" * entry.is_dir() for entry in data.iterdir())[:8]) or "nothing"
