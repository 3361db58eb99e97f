"""Access to a data set's folder or list file, with bounded file sizes and no paths that lead outside."""

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
Real = Annotated[float, Field(allow_inf_nan=False, ge=-1e9, le=1e9)]  # far beyond any image, so that sums stay finite
Length = Annotated[int, Field(ge=1, le=1 << 16)]
Content = TypeVar("Content", bound=BaseModel)


class DataSetPath:
    """Data set given by the user: a folder, or a file that lists images.

    `path`: the folder or the file.
    `folder`: the folder, or the folder of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.folder = path, path if path.is_dir() else path.parent
        self._parsed: dict[Path, Any] = {}

    def file(self, *suffixes: str) -> Path | None:
        """Return the given file if it has one of these suffixes, else None."""
        return self.path if self.path.is_file() and self.path.suffix.lower() in suffixes else None

    def json(self, file: Path) -> Any:
        """Parse a JSON file, cached; raises DatasetError if it is damaged or too large."""
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

    def may_be(self, file: Path, *keys: str) -> bool:
        """Like `is_json` for a file that may belong to another program: False for a damaged one."""
        try:
            return self.is_json(file, *keys)
        except DatasetError:
            return False

    def read(self, file: Path, model: type[Content]) -> Content:
        """Read a JSON file and validate it by a pydantic model."""
        return checked(self.json(file), model, file)

    def find(
        self, name: str, source: Path, bases: Sequence[Path] = (), root: Path | None = None, *, by_end: bool = False
    ) -> Path:
        """Resolve the name of an image, mask or folder in an annotation file to a path.

        `name`: a path, with slashes or backslashes; or a URL, such as s3://BUCKET/KEY, of which the path is used.
        `source`: file that contains the name, for messages.
        `bases`: folders to which the name may be relative; by default the data set's folder.
        `root`: folder in which the file must be; by default the data set's folder.
        `by_end`: whether the name is from another place, like a URL: the file is taken whose path is its longest end.
        Returns the first candidate that exists; else the first candidate, which the registry then reports as missing.
        Raises DatasetError: the path is outside of `root`.
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
            return next((path for path in found if path.exists()), found[0])
        except OSError as error:  # name too long, or folder without permission
            raise DatasetError(f"{source} names {name[:100]!r}: {error.strerror}") from error


def is_data_set(path: Path) -> bool:
    """Whether a path may be a data set: a folder, or a file that is no image or volume and so may list images."""
    return path.is_dir() or (path.is_file() and not is_image_path(path) and not is_volume(path))


def split_url(url: str, where: Path | str) -> SplitResult:
    """Split a URL from a file; raises DatasetError if it is invalid."""
    try:
        return urlsplit(url)
    except ValueError as error:
        raise DatasetError(f"{where} names {url[:100]!r}, which is no URL ({error})") from error


def read_text(file: Path) -> str:
    """Read a UTF-8 text file; raises DatasetError if it cannot be read, is no such text, or is too large."""
    try:
        return read_regular(file, MAX_BYTES).decode("utf-8-sig")
    except UnreadableFileError as error:
        raise DatasetError(f"{file} {error}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{file} is no text in UTF-8 ({error.reason} at byte {error.start})") from error


def checked(content: object, model: type[Content], where: Path | str) -> Content:
    """Validate parsed content by a pydantic model; raises DatasetError with a readable message."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise DatasetError(f"{where}: {tell_invalid(error.errors()[:3], whole='the whole')}") from error


def refuse_bare(annotated: Iterable[Path]) -> None:
    """Raise DatasetError if images beside annotated ones are not annotated, as nothing says that they are good."""
    seen = set(annotated)
    folders = {path.parent for path in seen if path.is_file()}
    bare = sorted(path for folder in folders for path in folder.iterdir() if is_image_path(path) and path not in seen)
    if bare:
        raise DatasetError(
            f"{len(bare)} images are not annotated, {bare[0]} first: save them in the annotation tool, without a shape "
            "if they are good, or put them into another folder"
        )


def names_in(folder: Path, names: Iterable[str]) -> list[str]:
    """List the names that are folders below `folder`."""
    return [name for name in names if (folder / name).is_dir()]


def contents(data: Path) -> str:
    """List the first names in a folder, for a message."""
    return ", ".join(sorted(entry.name + "/" * entry.is_dir() for entry in data.iterdir())[:8]) or "nothing"
