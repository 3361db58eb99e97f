"""Of which kind is a reject: that of the nearest known ones, unless all of them are too far for it.

How far is too far is conformal: a reject's distance to the nearest known one is ranked among the distances of the known
ones to the nearest of another part. Let the new part be exchangeable with the known ones. In the set of all, the new
reject included, it could only bring another one's nearest neighbour nearer, and to no less than its own distance: so
the ranks are the same as if each were compared with all others, and the p-value is at most a with probability at most
a, whatever the kinds are. Only the scale of residuals is that of the known ones alone. By group the same holds for a
part of a new group; see `edgead.calibration.group_conformal`.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

import numpy as np

from edgead.artifact.folder import Artifact
from edgead.artifact.kinds import Kinds
from edgead.artifact.manifest import Manifest
from edgead.calibration.group_conformal import Ranking
from edgead.heads.nearest import BANK
from edgead.kernels import NearestPatches
from edgead.kernels.nearest import MAX_K
from edgead.kinds.space import scaled
from edgead.types import UNKNOWN_KIND

# The 16 nearest known rejects vote; one that is so much farther than the nearest counts for 1/e. Ours, chosen on one
# split of the magnetic tiles: with ten examples a kind six in a hundred more are right than by the nearest alone.
_VOTE_LENGTH = 0.1

logger = logging.getLogger(__name__)


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
        self._kinds, self._examples = kinds, NearestPatches(scaled(examples, kinds.residual_scale))
        self._labels, self._voters = np.array(kinds.labels), min(MAX_K, len(examples))
        order = np.argsort(kinds.distances, kind="stable")
        self._ranking = Ranking([kinds.distances[i] for i in order], [kinds.groups[i] for i in order])

    def kind_of(self, descriptor: np.ndarray) -> KindFound:
        """Find the kind of a reject.

        Parameters
        ----------
        descriptor : ndarray of shape (n,), float32
            See `edgead.heads.contract.Describer`.
        """
        compared = scaled(descriptor[None], self._kinds.residual_scale)
        (distances,), (nearest,) = self._examples.search(compared, self._voters)
        p_value = self._ranking.p_value(float(distances[0]))
        if p_value <= self._kinds.unknown_level:
            return KindFound(UNKNOWN_KIND, p_value)
        votes = np.bincount(self._labels[nearest], np.exp((distances[0] - distances) / _VOTE_LENGTH))
        return KindFound(self._kinds.names[int(votes.argmax())], p_value)


def is_stale(manifest: Manifest) -> bool:
    """Were its kinds described with another memory bank than it has now, so that they say nothing of its rejects?"""
    kinds = manifest.kinds
    return kinds is not None and kinds.bank_sha256 != bank_sha256(manifest)


def bank_sha256(manifest: Manifest) -> str:
    """Hash of the file of the memory bank; empty for a model without one, or whose files have not been hashed."""
    return manifest.files.get(manifest.arrays.get(BANK, ""), "")


def stale_message(artifact: Artifact) -> str:
    """What is wrong with stale kinds, and what to do."""
    return (
        f"{artifact.path} has learnt good parts since its kinds of rejects were named, and would mistake them: name "
        f"them again with `edgead name {artifact.path} --examples FOLDER --replace`"
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
