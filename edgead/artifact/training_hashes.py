"""Hashes of the images that a model has learnt from: no threshold comes from them, and their scores say nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from edgead.artifact.folder import Artifact
from edgead.artifact.manifest import Preprocessing
from edgead.artifact.preprocess import as_frame, read_frame
from edgead.errors import SettingsError
from edgead.images.files import file_sha256
from edgead.images.pairs import files_of

FILE = "learnt_images.txt"
_PIXELS = "pixels:"


def content_sha256(path: Path) -> str:
    """By which an image is known, whatever it is called."""
    files = files_of(path)
    if len(files) == 1:
        return file_sha256(path)
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def keep_learnt(
    draft: Path, paths: Sequence[Path], folds: Sequence[int] = (), *, pixels_of: Preprocessing | None = None
) -> None:
    """Add images to those that the model in `draft` has learnt from: a line each, its SHA-256 and its fold if any.

    With `pixels_of`, the model's own, each has a second line with the SHA-256 of its pixels. What was decoded and kept
    as another file, as a page, a camera and the evidence do, is known by them.
    """
    of_fold = [str(fold) for fold in folds] if len(folds) else [""] * len(paths)
    file = draft / FILE
    known = _parsed(file.read_bytes() if file.is_file() else b"")
    for path, fold in zip(paths, of_fold, strict=True):
        known.setdefault(content_sha256(path), fold)
        if pixels_of is not None:
            known.setdefault(_of_pixels(read_frame(path, pixels_of)), fold)
    lines = (f"{digest} {fold}".rstrip() for digest, fold in sorted(known.items()))
    file.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")


def find_learnt(artifact: Artifact, paths: Sequence[Path]) -> list[Path]:
    """Learnt images among these; none where the model does not say."""
    return list(folds_of_learnt(artifact, paths))


class LearntImages:
    """The images that a model has learnt from, for many questions: read once, with the first one."""

    def __init__(self, artifact: Artifact):
        self._artifact = artifact

    @cached_property
    def known(self) -> dict[str, str]:
        """The digests of each, and its fold or ''."""
        return _known_of(self._artifact)

    def has(self, data: bytes, image: np.ndarray) -> bool:
        """Report whether an image is one of them: the bytes of its file, and what it was decoded to."""
        if hashlib.sha256(data).hexdigest() in self.known:
            return True
        return self._by_pixels and _of_pixels(as_frame(image, self._artifact.manifest.preprocessing)) in self.known

    @cached_property
    def _by_pixels(self) -> bool:
        return _by_pixels(self.known)


def find_folds(artifact: Artifact, paths: Sequence[Path]) -> dict[Path, int]:
    """The fold of each of the images that was learnt in one."""
    return {path: fold for path, fold in folds_of_learnt(artifact, paths).items() if fold is not None}


def refuse_learnt(artifact: Artifact, paths: Sequence[Path]) -> None:
    """Raise SettingsError where images that thresholds shall come from are among those."""
    learnt = find_learnt(artifact, paths)
    if learnt:
        raise SettingsError(
            f"{artifact.path} has learnt from {len(learnt)} of {len(paths)} images, {learnt[0].name} first: thresholds "
            "from them would guarantee too much; give good images that it has not seen"
        )


def folds_of_learnt(artifact: Artifact, paths: Sequence[Path]) -> dict[Path, int | None]:
    """Learnt images among these, in their order, each with its fold if any."""
    known = _known_of(artifact)
    by_pixels, spec = _by_pixels(known), artifact.manifest.preprocessing
    found: dict[Path, int | None] = {}
    for path in paths if known else ():
        fold = known.get(content_sha256(path))
        if fold is None and by_pixels:
            fold = known.get(_of_pixels(read_frame(path, spec)))
        if fold is not None:
            found[path] = int(fold) if fold else None
    return found


def _of_pixels(frame: np.ndarray) -> str:
    """By which a frame, as the model reads it, is known, whatever kind of file it came from."""
    return _PIXELS + hashlib.sha256(f"{frame.dtype} {frame.shape} ".encode() + frame.tobytes()).hexdigest()


def _by_pixels(known: dict[str, str]) -> bool:
    return any(digest.startswith(_PIXELS) for digest in known)


def _known_of(artifact: Artifact) -> dict[str, str]:
    return _parsed(artifact.optional_file(FILE) or b"")


def _parsed(data: bytes) -> dict[str, str]:
    """The digests of each image, and its fold or ''."""
    lines = data.decode("ascii", "replace").splitlines()
    return {digest: fold for digest, _, fold in (line.partition(" ") for line in lines)}
