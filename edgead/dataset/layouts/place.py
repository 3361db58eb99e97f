"""Places of data sets: a folder or the file that lists its images, files read within bounds, names kept inside."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import BaseModel, Field, ValidationError

from edgead.dataset.errors import DatasetError
from edgead.errors import tell_invalid
from edgead.files.regular_files import UnreadableFileError, read_regular
from edgead.images.files import is_image_path
from edgead.images.volumes import is_volume

MAX_BYTES = 256 << 20
Real = Annotated[float, Field(allow_inf_nan=False, ge=-1e9, le=1e9)]  # far beyond any image: sums stay finite
Length = Annotated[int, Field(ge=1, le=1 << 16)]
Content = TypeVar("Content", bound=BaseModel)


class Place:
    """A data set as somebody names it.

    Parameters
    ----------
    path : Path
        Its folder, or the file that lists its images.

    Attributes
    ----------
    folder : Path
        The folder, or that of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.folder = path, path if path.is_dir() else path.parent
        self._parsed: dict[Path, Any] = {}

    def file(self, *suffixes: str) -> Path | None:
        """The file itself, where one with such a suffix was named."""
        return self.path if self.path.is_file() and self.path.suffix.lower() in suffixes else None

    def json(self, file: Path) -> Any:
        """Parse a JSON file, once; raises DatasetError where it is damaged, or too large."""
        if file not in self._parsed:
            try:
                self._parsed[file] = json.loads(read_text(file))
            except (ValueError, RecursionError) as error:
                if isinstance(error, DatasetError):
                    raise
                raise DatasetError(f"{file} is no JSON ({error})") from error
        return self._parsed[file]

    def is_json(self, file: Path, *keys: str) -> bool:
        """Whether a JSON file holds an object with these keys."""
        return isinstance(content := self.json(file), dict) and content.keys() >= set(keys)

    def read(self, file: Path, model: type[Content]) -> Content:
        """Read what a JSON file holds, as far as `model` asks for it."""
        return checked(self.json(file), model, file)

    def find(
        self, name: str, source: Path, bases: Sequence[Path] = (), root: Path | None = None, *, by_end: bool = False
    ) -> Path:
        """Find an image or a mask by the name that a file gives it.

        Parameters
        ----------
        name : str
            A path, with slashes or as Windows writes it; or a URL, such as s3://BUCKET/KEY, of which its path counts.
        source : Path
            The file that names it, for messages.
        bases : sequence of Path
            Folders that it may be named from; by default that of the data set.
        root : Path, optional
            Folder that it must lie in; by default that of the data set.
        by_end : bool
            It is a name elsewhere, as a URL is: the file here whose path is the longest end of it is meant.

        Returns
        -------
        Path
            The first that is there; else the first that was looked for, which the registry then reports as missing.

        Raises
        ------
        DatasetError
            It lies outside of `root`.
        """
        plain = name.strip().replace("\\", "/")
        ends = [plain]
        if "://" in plain:
            plain, by_end = unquote(split_url(plain, source).path), True
        if by_end:
            parts = PurePosixPath(plain.lstrip("/")).parts
            ends = ["/".join(parts[start:]) for start in range(len(parts))]
        root = root or self.folder
        found = [Path(os.path.normpath(base / end)) for end in ends for base in bases or [self.folder]]
        for path in found:
            if not Path(os.path.abspath(path)).is_relative_to(os.path.abspath(root)):
                raise DatasetError(f"{source} names {name!r}, which lies outside of {root}: name what lies in it")
        if not plain or not found:
            raise DatasetError(f"{source} names no file for an image or a mask")
        try:
            return next((path for path in found if path.is_file()), found[0])
        except OSError as error:  # a name that is too long, a folder that may not be read
            raise DatasetError(f"{source} names {name[:100]!r}: {error.strerror}") from error


def is_data_set(path: Path) -> bool:
    """Whether a path may be that of a data set: a folder, or a file that may list images, for it is none itself."""
    return path.is_dir() or (path.is_file() and not is_image_path(path) and not is_volume(path))


def split_url(url: str, where: Path | str) -> SplitResult:
    """Split a URL that a file names; raises DatasetError where it is none."""
    try:
        return urlsplit(url)
    except ValueError as error:
        raise DatasetError(f"{where} names {url[:100]!r}, which is no URL ({error})") from error


def read_text(file: Path) -> str:
    """Read a text file in UTF-8; raises DatasetError where it cannot be read, is none, or is too large."""
    try:
        return read_regular(file, MAX_BYTES).decode("utf-8-sig")
    except UnreadableFileError as error:
        raise DatasetError(f"{file} {error}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{file} is no text in UTF-8 ({error.reason} at byte {error.start})") from error


def checked(content: object, model: type[Content], where: Path | str) -> Content:
    """Check parsed content; raises DatasetError in words."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise DatasetError(f"{where}: {tell_invalid(error.errors()[:3], whole='the whole')}") from error


def names_in(folder: Path, names: Iterable[str]) -> list[str]:
    """Those of some folders that are there below one."""
    return [name for name in names if (folder / name).is_dir()]
