"""EAR's comparison equals public code of RIAD on the same images, and no longer when one thing in it is turned.

Their filters are rounded to float32: 1e-7.
"""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")

import numpy as np  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from authors import authors_numbers  # noqa: E402
from riad_authors import SCALES, unit  # noqa: E402

from edgead_reconstruction.ear import similarity  # noqa: E402

THEIRS = authors_numbers("riad")
MAGNITUDE, POOL = similarity.gradient_magnitude, F.avg_pool2d


def differs(tolerance: float) -> bool:
    found = similarity.msgms_distance(unit("image"), unit("rebuilt"))
    ours = found[:, ::3, ::3].numpy(), found.mean().numpy()
    return not all(
        np.allclose(x, THEIRS[name], tolerance, atol=tolerance) for x, name in zip(ours, ("map", "loss"), strict=True)
    )


def test_the_comparison_equals_public_code_of_riad():
    assert similarity.SCALES == SCALES and not differs(1e-7)


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (similarity, "SCALES", 3),
        (similarity, "CONSTANT", 0.0027),
        (similarity, "gradient_magnitude", lambda x: 3 * MAGNITUDE(x)),
        (similarity, "gradient_magnitude", lambda x: MAGNITUDE(x).square()),
        (similarity, "gradient_magnitude", lambda x: MAGNITUDE(x.mean(dim=1, keepdim=True))),
        (F, "avg_pool2d", lambda x, side: F.max_pool2d(x, side)),
        (F, "avg_pool2d", lambda x, side: x[..., ::side, ::side]),
    ],
    ids=["scales", "constant", "sums", "squares", "grey", "largest", "thinned"],
)
def test_another_comparison_differs(monkeypatch, module, name, value):
    monkeypatch.setattr(module, name, value)
    assert differs(1e-4)
