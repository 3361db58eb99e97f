"""Hashes of the images that a model has learnt from, so that no threshold is set or tested with these images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import numpy as np

from edgead.artifact.folder import Artifact
from edgead.artifact.manifest import Manifest, Preprocessing
from edgead.artifact.preprocess import as_frame, read_frame
from edgead.errors import SettingsError
from edgead.images.files import ImageError, file_sha256
from edgead.images.pairs import files_of
from edgead.images.volumes import volume_of

FILE = "learnt_images.txt"


def content_sha256(path: Path) -> str:
    """SHA-256 of an image file's content, which identifies it under any name."""
    files = files_of(path)
    if len(files) == 1:
        return file_sha256(path)
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def keep_learnt(draft: Path, paths: Sequence[Path], spec: Preprocessing, folds: Sequence[int] = ()) -> None:
    """Append images to the list of learnt images of the model in `draft`: two lines for each, with its fold.

    One line has the SHA-256 of the file, the other the SHA-256 of the pixels, which identifies arrays, and images that
    the page, a camera or the evidence store has decoded and stored in another file.
    """
    of_fold = [str(fold) for fold in folds] if len(folds) else [""] * len(paths)
    file = draft / FILE
    known = _parsed(file.read_bytes() if file.is_file() else b"")
    for path, fold in zip(paths, of_fold, strict=True):
        known.setdefault(content_sha256(path), fold)
        if volume_of(path) is None:  # slices that show nothing are alike in all volumes
            known.setdefault(_of_pixels(read_frame(path, spec)), fold)
    lines = (f"{digest} {fold}".rstrip() for digest, fold in sorted(known.items()))
    file.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")


def find_learnt(artifact: Artifact, paths: Sequence[Path]) -> list[Path]:
    """Find the images among `paths` that the model has learnt from; none if it has no such list."""
    return list(folds_of_learnt(artifact, paths))


class LearntImages:
    """Lookup of the images that a model has learnt from; the list is read once, at the first lookup."""

    def __init__(self, artifact: Artifact):
        self._artifact = artifact

    @cached_property
    def known(self) -> dict[str, str]:
        """Fold ('' for none) of each learnt image, by digest of its file or pixels."""
        return _known_of(self._artifact)

    def has(self, data: bytes, image: np.ndarray) -> bool:
        """Whether the model has learnt from an image, given its file's bytes and its decoded pixels."""
        if not self.known:
            return False
        found = hashlib.sha256(data).hexdigest() in self.known
        return found or _of_pixels(as_frame(image, self._artifact.manifest.preprocessing)) in self.known


def find_folds(artifact: Artifact, paths: Sequence[Path]) -> dict[Path, int]:
    """Map each learnt image among `paths` to its fold; images without a fold are left out."""
    return {path: fold for path, fold in folds_of_learnt(artifact, paths).items() if fold is not None}


def refuse_learnt(artifact: Artifact, paths: Sequence[Path]) -> None:
    """Raise SettingsError if the model has learnt from any of the images that thresholds shall come from."""
    learnt = find_learnt(artifact, paths)
    if learnt:
        raise SettingsError(
            f"{artifact.path} has learnt from {len(learnt)} of {len(paths)} images, {learnt[0].name} first: thresholds "
            "from them would guarantee too much; give good images that it has not seen"
        )


def count_taught(manifest: Manifest, paths: Sequence[Path]) -> int:
    """Count the images among `paths` that were taught to the model as known defects."""
    known = {one["sha256"] for one in manifest.training.get("known_defects", ())}
    return sum(content_sha256(path) in known for path in paths) if known else 0


def folds_of_learnt(artifact: Artifact, paths: Sequence[Path]) -> dict[Path, int | None]:
    """Map the learnt images among `paths`, in order, to their fold or None."""
    known = _known_of(artifact)
    spec = artifact.manifest.preprocessing
    found: dict[Path, int | None] = {}
    for path in paths if known else ():
        fold = known.get(content_sha256(path))
        if fold is None:
            with suppress(ImageError):  # which no model has learnt; its reader reports it
                fold = known.get(_of_pixels(read_frame(path, spec)))
        if fold is not None:
            found[path] = int(fold) if fold else None
    return found


def _of_pixels(frame: np.ndarray) -> str:
    """Digest of a decoded frame, which identifies it in any file format."""
    return "pixels:" + hashlib.sha256(f"{frame.dtype} {frame.shape} ".encode() + frame.tobytes()).hexdigest()


def _known_of(artifact: Artifact) -> dict[str, str]:
    return _parsed(artifact.optional_file(FILE) or b"")


def _parsed(data: bytes) -> dict[str, str]:
    """Parse the list of learnt images: fold ('' for none) by digest."""
    lines = data.decode("ascii", "replace").splitlines()
    return {digest: fold for digest, _, fold in (line.partition(" ") for line in lines)}
