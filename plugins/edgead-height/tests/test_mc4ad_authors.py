"""MC4AD equals the authors' code on the same points and weights, and no longer when one thing in it is turned.

Both compute in float64, so what is left is the order of sums, and the 1e-6 that the code adds to a count: 1e-6.
"""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")

from authors import authors_numbers, numbers  # noqa: E402
from mc4ad_authors import CHANNELS, CROPS, FORCES, PARTS, PUSHES, SEED, cloud, forces, parameter  # noqa: E402

from edgead_height.mc4ad import losses  # noqa: E402
from edgead_height.mc4ad.network import Forces  # noqa: E402
from edgead_height.mc4ad.pushes import crop_patches, displacements  # noqa: E402

THEIRS = authors_numbers("mc4ad")


def cropped(parts: int = PARTS):
    return crop_patches(cloud()[0], parts, CROPS, np.random.RandomState(SEED).randint)


def moved(**turned: float) -> np.ndarray:
    points, normals = cloud()
    found = []
    for number, (patch, settings) in enumerate(zip(cropped(), PUSHES, strict=False)):
        rng = np.random.RandomState(SEED + number)
        axis = rng.randn(3)
        distance, attenuation, blend = settings
        found.append(
            displacements(
                points[patch.taken],
                normals[patch.taken],
                patch.centre,
                **{
                    "axis": axis / np.linalg.norm(axis),
                    "sign": float(rng.choice([-1, 1])),
                    "distance": distance,
                    "attenuation": attenuation,
                    "blend": blend,
                    **turned,
                },
            )
        )
    return np.stack(found)


def test_patches_are_the_authors():
    for number, patch in enumerate(cropped()):
        np.testing.assert_array_equal(patch.taken, THEIRS["mask"] == number)
        np.testing.assert_array_equal(patch.centre, THEIRS["centres"][number])
    assert not np.array_equal(cropped(parts=PARTS + 3)[0].taken, THEIRS["mask"] == 0)


def test_pushes_are_the_authors():
    np.testing.assert_allclose(moved(), THEIRS["displacements"], atol=1e-12)


@pytest.mark.parametrize("turned", [{"sign": 1.0}, {"attenuation": 0.0}, {"blend": 1.0}, {"distance": 0.1}])
def test_each_number_of_a_push_counts(turned):
    assert np.abs(moved(**turned) - THEIRS["displacements"]).max() > 1e-3


def test_forces_are_the_authors():
    heads = Forces().double().eval()
    state = {}
    for name, value in heads.state_dict().items():
        drawn = parameter(f"linear_offset.{name}", tuple(value.shape[:2]) if value.ndim == 4 else tuple(value.shape))
        state[name] = torch.from_numpy(np.asarray(drawn)).reshape(value.shape)
    heads.load_state_dict(state)
    features = torch.from_numpy(numbers("features", (FORCES, CHANNELS)))
    with torch.no_grad():
        found = heads(features[..., None, None])[..., 0, 0].numpy()
    np.testing.assert_allclose(found, THEIRS["offsets"], rtol=1e-9)


def losses_of() -> tuple[float, np.ndarray]:
    drawn, true = (torch.from_numpy(x) for x in forces())
    drawn.requires_grad_()
    loss = losses.corrective_loss(drawn[:, :3], drawn[:, 3:], true)
    loss.backward()
    return loss.item(), drawn.grad.numpy()


def test_the_loss_and_its_gradient_are_the_authors():
    loss, gradient = losses_of()
    assert loss == pytest.approx(float(THEIRS["loss"]), rel=1e-6)
    np.testing.assert_allclose(gradient, THEIRS["gradient"], atol=1e-7)
    drawn = torch.from_numpy(forces()[0])
    joint = losses.joint_of(drawn[:, :3], drawn[:, 3:])
    np.testing.assert_allclose(joint, THEIRS["joint"])


@pytest.mark.parametrize(
    ("name", "turned"),
    [
        ("SYMMETRY_WEIGHT", 0.2),
        ("joint_of", lambda internal, external: internal + external),
        ("push_loss", lambda joint, true: (joint - true).abs().sum(dim=1).mean()),
        ("symmetry_loss", lambda internal, external: (internal - external).abs().sum(dim=1).mean()),
        ("_unit", lambda vectors: vectors),
    ],
)
def test_another_loss_is_noticed(name, turned, monkeypatch):
    monkeypatch.setattr(losses, name, turned)
    loss, gradient = losses_of()
    assert abs(loss / float(THEIRS["loss"]) - 1) > 1e-3
    assert np.abs(gradient - THEIRS["gradient"]).max() > 1e-4
