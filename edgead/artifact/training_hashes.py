"""Hashes of the images that a model has learnt from: no threshold comes from them, and their scores say nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from edgead.artifact.folder import Artifact
from edgead.errors import SettingsError
from edgead.images.files import file_sha256
from edgead.images.pairs import files_of

FILE = "learnt_images.txt"


def content_sha256(path: Path) -> str:
    """By which an image is known, whatever it is called."""
    files = files_of(path)
    if len(files) == 1:
        return file_sha256(path)
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def keep_learnt(draft: Path, paths: Sequence[Path], folds: Sequence[int] = ()) -> None:
    """Add images to those that the model in `draft` has learnt from: a line each, its SHA-256 and its fold if any."""
    of_fold = [str(fold) for fold in folds] if len(folds) else [""] * len(paths)
    known = {content_sha256(path): fold for path, fold in zip(paths, of_fold, strict=True)} | _known(draft)
    lines = (f"{digest} {fold}".rstrip() for digest, fold in sorted(known.items()))
    (draft / FILE).write_text("".join(f"{line}\n" for line in lines), encoding="ascii")


def find_learnt(artifact: Artifact, paths: Sequence[Path]) -> list[Path]:
    """Those of the images that the model has learnt from; none where the model does not say."""
    known = _known(artifact.path) if FILE in artifact.manifest.files else {}
    return [path for path in paths if content_sha256(path) in known] if known else []


def learnt_warnings(learnt: Sequence[Path], judged: int) -> list[str]:
    """One sentence where some of the images that a model judged are such as `find_learnt` finds."""
    if not learnt:
        return []
    return [
        f"{len(learnt)} of {judged} images were learnt by this model, {learnt[0].name} first: their scores are too low "
        "and say nothing of new parts; judge images that it has not learnt"
    ]


def find_folds(artifact: Artifact, paths: Sequence[Path]) -> dict[Path, int]:
    """The fold of each of the images that was learnt in one."""
    known = _known(artifact.path) if FILE in artifact.manifest.files else {}
    found = {path: known.get(content_sha256(path), "") for path in paths} if any(known.values()) else {}
    return {path: int(fold) for path, fold in found.items() if fold}


def refuse_learnt(artifact: Artifact, paths: Sequence[Path]) -> None:
    """Raise SettingsError where images that thresholds shall come from are among those."""
    learnt = find_learnt(artifact, paths)
    if learnt:
        raise SettingsError(
            f"{artifact.path} has learnt from {len(learnt)} of {len(paths)} images, {learnt[0].name} first: thresholds "
            "from them would guarantee too much; give good images that it has not seen"
        )


def _known(folder: Path) -> dict[str, str]:
    """The digest of each image, and its fold or ''."""
    file = folder / FILE
    lines = file.read_text(encoding="ascii").splitlines() if file.is_file() else []
    return {digest: fold for digest, _, fold in (line.partition(" ") for line in lines)}
