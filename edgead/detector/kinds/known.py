"""Kind of a reject: the known one that it is most like, unless all are too far from it.

How far is too far is conformal: a reject's distance to the nearest known parts is ranked among the distances of the
known rejects to the nearest other parts. Let the new part be exchangeable with the known ones. In the set of all, the
new reject included, it could only bring others' nearest parts nearer, so that no more of them were as far: the p-value
is at least that of the set of all, which is at most a with probability at most a, whatever the kinds are. Only the
scale of residuals is that of the known ones alone. By group the same holds for a part of a new group; see
`edgead.calibration.group_conformal`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edgead.artifact.folder import Artifact
from edgead.artifact.kinds import DESCRIPTOR, Kinds
from edgead.artifact.manifest import Manifest
from edgead.calibration.group_conformal import Ranking
from edgead.detector.kinds.distances import KnownParts, distances_between, squared_lengths
from edgead.detector.kinds.regression import KindRegression
from edgead.detector.kinds.space import to_know
from edgead.heads.nearest import BANK
from edgead.types import UNKNOWN_KIND

logger = logging.getLogger(__name__)


def distances_to_others(descriptors: np.ndarray, scale: float, groups: Sequence[int]) -> list[float]:
    """How far known rejects are from the nearest other parts, which new ones are ranked among.

    Parameters
    ----------
    descriptors : ndarray of shape (m, 3 d), float32
    scale : float
        Of their residuals.
    groups : sequence of int of length m
        Rejects of one number show the same part; there are two parts at least.
    """
    rows = to_know(descriptors, scale).astype(np.float64)
    return list(KnownParts(groups).to_others(distances_between(rows, rows)))


class KindFound(NamedTuple):
    """The kind of a reject: its name, or "unknown kind", and the p-value of "a kind seen before"."""

    name: str
    p_value: float


class KnownKinds:
    """The kinds of a model, ready to name rejects.

    Parameters
    ----------
    kinds : Kinds
    examples : ndarray of shape (m, n), float32
        What describes the rejects that the kinds were learnt from.
    """

    def __init__(self, kinds: Kinds, examples: np.ndarray):
        self._kinds, self._examples = kinds, to_know(examples, kinds.residual_scale)
        self._squares, self._parts = squared_lengths(self._examples), KnownParts(kinds.groups)
        wide = self._examples.astype(np.float64)
        self._regression = KindRegression(distances_between(wide, wide), kinds.labels)
        order = np.argsort(kinds.distances, kind="stable")
        self._ranking = Ranking([kinds.distances[i] for i in order], [kinds.groups[i] for i in order])

    def kind_of(self, descriptor: np.ndarray) -> KindFound:
        """Find the kind of a reject.

        Parameters
        ----------
        descriptor : ndarray of shape (n,), float32
            See `edgead.heads.contract.Describer`.
        """
        known_by = to_know(descriptor[None], self._kinds.residual_scale)
        distances = distances_between(known_by, self._examples, self._squares)
        p_value = self._ranking.p_value(float(self._parts.to_nearest(distances)[0]))
        if p_value <= self._kinds.unknown_level:
            return KindFound(UNKNOWN_KIND, p_value)
        return KindFound(self._kinds.names[int(self._regression.scores(distances)[0].argmax())], p_value)


def is_stale(manifest: Manifest) -> bool:
    """Were its kinds described in another way, or with another memory bank, so that they say nothing of its rejects?"""
    kinds = manifest.kinds
    return kinds is not None and (kinds.descriptor, kinds.bank_sha256) != (DESCRIPTOR, bank_sha256(manifest))


def bank_sha256(manifest: Manifest) -> str:
    """Hash of the file of the memory bank; empty for a model without one, or whose files have not been hashed."""
    return manifest.files.get(manifest.arrays.get(BANK, ""), "")


def stale_message(artifact: Artifact) -> str:
    """What is wrong with stale kinds, and what to do."""
    kinds = artifact.manifest.kinds
    earlier = kinds is not None and kinds.descriptor != DESCRIPTOR
    why = "describes rejects otherwise" if earlier else "has learnt good parts"
    return (
        f"{artifact.path} {why} since its kinds of rejects were named, and would mistake them: name them again with "
        f"`edgead name {artifact.path} --examples FOLDER --replace`"
    )


def open_kinds(artifact: Artifact) -> KnownKinds | None:
    """Open the kinds of a model; None where it has none, or, with a warning, stale ones.

    Raises
    ------
    ArtifactError
        What describes them is damaged.
    """
    kinds = artifact.manifest.kinds
    if kinds is None:
        return None
    if is_stale(artifact.manifest):
        logger.warning("%s; until then no reject has a kind", stale_message(artifact))
        return None
    return KnownKinds(kinds, artifact.kinds_examples())
