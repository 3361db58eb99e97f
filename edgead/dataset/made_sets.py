"""Made test sets: folders of artificial defects on good parts, marked by `made.json`; they contain no real defects."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from edgead.dataset.errors import DatasetError
from edgead.errors import tell_invalid
from edgead.files.regular_files import MissingFileError, UnreadableFileError, read_regular

FILE = "made.json"
_MAX_BYTES = 256 << 20
_DEEPEST = 3  # most folders between `made.json` and an image, as in real/test/KIND

Method = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
"""Name of a method of edgead or of a plug-in; see `edgead.synthetic.makers`."""
Label = Literal["mask", "box", "map"]


def _below(path: str) -> str:
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise ValueError("leaves the folder")
    return path


_Name = Annotated[str, AfterValidator(_below)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Reject(_Section):
    """Real reject from which defects were copied or learnt; `label` names the source of its mask.

    Rejects of one `group` show the same part, or belong together in another way.
    """

    image: _Name
    mask: _Name
    kind: str
    group: int
    sha256: str
    label: Label


class MadeImage(_Section):
    """Made image; paths lie below the folder. Only versions that moved defects wrote `reject` and `transform`."""

    image: _Name
    mask: _Name
    kind: str
    good: _Name
    reject: _Name | None = None
    transform: dict[str, Any] | None = None


class Learnt(_Section):
    """Learnt maker of the images: the name of its folder of weights, and the settings of the method."""

    weights: str
    settings: dict[str, bool | int | float]


class MadeSet(_Section):
    """Content of `made.json`; `learnt` is None if the method does not learn."""

    made_version: Literal[1] = 1
    method: Method
    seed: int
    learnt: Learnt | None = None
    rejects: Annotated[tuple[Reject, ...], Field(max_length=100_000)]
    images: Annotated[tuple[MadeImage, ...], Field(min_length=1, max_length=1_000_000)]


def is_made(folder: Path) -> bool:
    """Whether a folder is marked as a set of made defects."""
    return (folder / FILE).is_file()


def read_made(folder: Path) -> MadeSet:
    """Read a folder's record of its made defects.

    Raises DatasetError: `made.json` is missing or damaged, or a file that it names is missing.
    """
    file = folder / FILE
    try:
        made = MadeSet.model_validate(json.loads(read_regular(file, _MAX_BYTES)))
    except MissingFileError:
        raise DatasetError(f"{folder} holds no {FILE}: make defects with `edgead defects GOOD -o {folder}`") from None
    except UnreadableFileError as error:
        raise DatasetError(f"{file} {error}") from error
    except ValidationError as error:
        raise DatasetError(f"{file}: {tell_invalid(error.errors()[:3])}; make the defects again") from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"{file} is damaged ({error}): make the defects again") from error
    named = [name for image in made.images for name in (image.image, image.mask, image.good)]
    named += [name for reject in made.rejects for name in (reject.image, reject.mask)]
    missing = [name for name in dict.fromkeys(named) if not (folder / name).is_file()]
    if missing:
        raise DatasetError(f"{folder} lacks {len(missing)} files of its {FILE}, {missing[0]} first: make it again")
    return made


def refuse_made(paths: Iterable[Path]) -> None:
    """Raise DatasetError if images are in a folder of made defects, or are links into one."""
    for folder in {parent for path in paths for parent in (path.absolute().parent, path.resolve().parent)}:
        for above in (folder, *folder.parents[:_DEEPEST]):
            if is_made(above):
                raise DatasetError(
                    f"{above} holds made defects ({FILE}): they are never taken as good, for thresholds or as a real "
                    f"test set; `edgead predict MODEL {above}` shows what a model makes of them"
                )
