"""Losses of MC4AD (Liang et al., arXiv 2505.05901) for forces of any dimension; equal to the authors' code."""

from __future__ import annotations

from torch import Tensor

SYMMETRY_WEIGHT = 0.1
_LEAST_SUM, _LEAST_LENGTH = 1e-6, 1e-8


def joint_of(internal: Tensor, external: Tensor) -> Tensor:
    """Compute the joint push, which is the mean of both forces."""
    return 0.5 * (internal + external)


def corrective_loss(internal: Tensor, external: Tensor, true: Tensor) -> Tensor:
    """Compute the joint push's error in distance and direction, plus a tenth of the forces' difference; a scalar.

    `internal`, `external`, `true` (Tensor of shape (n, c)): forces, and the true push; 0 where nothing was moved.
    """
    joint = joint_of(internal, external)
    # The authors' code divides by the number of points plus 1e-6, which is lost in single precision.
    return push_loss(joint, true) + SYMMETRY_WEIGHT * symmetry_loss(internal, external)


def push_loss(joint: Tensor, true: Tensor) -> Tensor:
    """Compute the mean L1 distance of pushes (n, c), minus the mean cosine between them."""
    return (joint - true).abs().sum(dim=1).mean() - (_unit(joint) * _unit(true)).sum(dim=1).mean()


def symmetry_loss(internal: Tensor, external: Tensor) -> Tensor:
    """Compute the difference of two forces (n, c), relative to their lengths, minus the mean cosine between them."""
    lengths = internal.norm(dim=1) + external.norm(dim=1) + _LEAST_SUM
    magnitude = ((internal - external).abs().sum(dim=1) / lengths).mean()
    return magnitude - (_unit(internal) * _unit(external)).sum(dim=1).mean()


def _unit(vectors: Tensor) -> Tensor:
    return vectors / (vectors.norm(dim=1, keepdim=True) + _LEAST_LENGTH)
