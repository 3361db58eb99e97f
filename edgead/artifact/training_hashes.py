"""Hashes of the images that a model has learnt from, so that thresholds are never calibrated on them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from edgead.artifact.folder import Artifact
from edgead.errors import SettingsError

FILE = "learnt_images.txt"


def content_sha256(path: Path) -> str:
    """By which an image is known, whatever it is called."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def keep_learnt(draft: Path, paths: Iterable[Path]) -> None:
    """Add images to those that the model in `draft` has learnt from: a line of SHA-256 for each."""
    digests = {*_known(draft), *map(content_sha256, paths)}
    (draft / FILE).write_text("".join(f"{digest}\n" for digest in sorted(digests)), encoding="ascii")


def find_learnt(artifact: Artifact, paths: Sequence[Path]) -> list[Path]:
    """Those of the images that the model has learnt from; none where the model does not say."""
    known = _known(artifact.path) if FILE in artifact.manifest.files else set()
    return [path for path in paths if content_sha256(path) in known] if known else []


def refuse_learnt(artifact: Artifact, paths: Sequence[Path]) -> None:
    """Raise SettingsError where images that thresholds shall come from are among those."""
    learnt = find_learnt(artifact, paths)
    if learnt:
        raise SettingsError(
            f"{artifact.path} has learnt from {len(learnt)} of {len(paths)} images, {learnt[0].name} first: thresholds "
            "from them would guarantee too much; give good images that it has not seen"
        )


def _known(folder: Path) -> set[str]:
    file = folder / FILE
    return set(file.read_text(encoding="ascii").split()) if file.is_file() else set()
