"""New version of a model that knows kinds of rejects; the one before is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from edgead.adapt.teach.run import new_version
from edgead.artifact.folder import Artifact, write_manifest
from edgead.artifact.kinds import DESCRIPTOR, EXAMPLES, MAX_EXAMPLES, Kinds
from edgead.calibration.group_conformal import dense
from edgead.detector.kinds.known import bank_sha256, distances_to_others, is_stale, stale_message
from edgead.detector.kinds.space import residual_scale
from edgead.errors import SettingsError, tell_invalid

UNKNOWN_LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Examples:
    """Rejects whose kind is known.

    Attributes
    ----------
    kinds : sequence of str
        The name of the kind of each.
    descriptors : ndarray of shape (m, n), float32
        See `edgead.heads.contract.Describer`.
    groups : sequence of int
        Those of one number show the same part.
    """

    kinds: Sequence[str]
    descriptors: np.ndarray
    groups: Sequence[int]


def keep_kinds(artifact: Artifact, examples: Examples, unknown_level: float = UNKNOWN_LEVEL) -> Artifact:
    """Give a model kinds in the place of those that it may have; they are numbered as they first appear.

    Raises
    ------
    SettingsError
        Names or a level that no kind can have, too many examples, all of one part, or the model was changed since it
        was opened.
    """
    if len(examples.kinds) > MAX_EXAMPLES:
        raise SettingsError(
            f"{len(examples.kinds)} examples are more than the {MAX_EXAMPLES} that a reject can be compared with in "
            "time: leave some out of the largest kinds"
        )
    if len(set(examples.groups)) < 2:
        raise SettingsError("all examples show one part: how far others may be needs those of two parts at least")
    names, scale = list(dict.fromkeys(examples.kinds)), residual_scale(examples.descriptors)
    kinds = _checked(
        names=names,
        labels=[names.index(kind) for kind in examples.kinds],
        groups=dense(examples.groups),
        distances=distances_to_others(examples.descriptors, scale, examples.groups),
        descriptor=DESCRIPTOR,
        residual_scale=scale,
        bank_sha256=bank_sha256(artifact.manifest),
        unknown_level=unknown_level,
    )
    return _write(artifact, kinds, examples.descriptors)


def kept_examples(artifact: Artifact) -> Examples:
    """The examples of the kinds that a model knows.

    Raises
    ------
    SettingsError
        They are stale: says how to name the kinds again.
    ArtifactError
        It knows no kinds, or what describes them is damaged.
    """
    descriptors, kinds = artifact.kinds_examples(), artifact.manifest.kinds
    assert kinds is not None  # there are examples
    if is_stale(artifact.manifest):
        raise SettingsError(stale_message(artifact))
    return Examples([kinds.names[label] for label in kinds.labels], descriptors, kinds.groups)


def renamed(examples: Examples, names: Mapping[str, str]) -> Examples:
    """Call kinds by other names; those that get the same name become one.

    Raises
    ------
    SettingsError
        There is no kind of one of the earlier names.
    """
    missing = [name for name in names if name not in examples.kinds]
    if missing:
        there_are = ", ".join(dict.fromkeys(examples.kinds))
        raise SettingsError(f"there is no kind {', '.join(map(repr, missing))}: there are {there_are}")
    return Examples([names.get(kind, kind) for kind in examples.kinds], examples.descriptors, examples.groups)


def _checked(**values: object) -> Kinds:
    try:
        return Kinds.model_validate(values)
    except ValidationError as error:
        raise SettingsError(f"kinds: {tell_invalid(error.errors()[:1], whole='names')}") from None


def _write(artifact: Artifact, kinds: Kinds, descriptors: np.ndarray) -> Artifact:
    path = artifact.path
    artifact.check_unchanged()
    with new_version(path) as draft:
        file = draft / EXAMPLES
        file.parent.mkdir(exist_ok=True)
        np.save(file, np.ascontiguousarray(descriptors, np.float32), allow_pickle=False)
        write_manifest(draft, artifact.manifest.model_copy(update={"kinds": kinds}))
        artifact.check_unchanged()
    return Artifact.load(Path(path))
