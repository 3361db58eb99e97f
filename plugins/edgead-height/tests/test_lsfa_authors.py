"""LSFA equals the authors' code on the same features and weights, and no longer when one thing in it is turned.

Both compute in float64, so what is left is the order of sums: 1e-9.
"""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")

from authors import authors_numbers, numbers  # noqa: E402
from lsfa_authors import COLOUR, FULL, HEIGHT, PARTS, SCALE, bank_rows, features, parameter  # noqa: E402

from edgead_height.lsfa import losses  # noqa: E402
from edgead_height.lsfa.adaptor import Adaptors  # noqa: E402
from edgead_height.lsfa.losses import Bank, Banks, Features, adaptation_loss, contrast, nearest_distances  # noqa: E402

THEIRS = authors_numbers("lsfa")
NAMES = {
    "colour.": "rgb_mlp.0.",
    "height.": "xyz_mlp.0.",
    "colour_head.": "rgb_head.",
    "height_head.": "xyz_head.",
    "qkv.": "attn.qkv.",
    "projection.": "attn.proj.",
    "perceptron.0.": "mlp.fc1.",
    "perceptron.2.": "mlp.fc2.",
}


def authors_name(name: str) -> str:
    for ours, theirs in NAMES.items():
        name = name.replace(ours, theirs)
    return name


def descending(count: int) -> torch.Tensor:
    return torch.arange(count - 1, -1, -1)


@pytest.fixture(scope="module")
def drawn() -> Adaptors:
    adaptors = Adaptors(COLOUR, HEIGHT, 12).double()
    state = {name: parameter(authors_name(name), tuple(x.shape)) for name, x in adaptors.state_dict().items()}
    adaptors.load_state_dict({name: torch.from_numpy(x) for name, x in state.items()})
    return adaptors


@pytest.fixture
def adaptors(drawn) -> Adaptors:
    drawn.zero_grad()
    return drawn


def given() -> Features:
    found = {name: torch.from_numpy(SCALE * x) for name, x in features().items()}
    return Features(found["colour"][:, 1:], found["height"], found["turned"])


def banks(sizes: tuple[int, ...] = (FULL, FULL, PARTS, PARTS)) -> Banks:
    made = Banks(*map(Bank, sizes))
    for bank, rows in zip(made, bank_rows().values(), strict=True):
        bank.add(torch.from_numpy(SCALE * rows))
    return made


def loss_of(adaptors: Adaptors) -> tuple[float, np.ndarray]:
    loss = adaptation_loss(adaptors, given(), banks(), descending)
    loss.backward()
    norms = {authors_name(name): float(p.grad.norm()) for name, p in adaptors.named_parameters()}
    return loss.item(), np.array([norms[name] for name in sorted(norms)])


def test_adaptors_are_the_authors(adaptors):
    with torch.no_grad():
        turned, height = adaptors.colour(given().turned), adaptors.height(given().height)
    np.testing.assert_allclose(turned[..., ::16], THEIRS["adapted_turned"], atol=1e-12)
    np.testing.assert_allclose(height[..., ::16], THEIRS["adapted_height"], atol=1e-12)


def test_contrast_and_distances_are_the_authors():
    first, second = (torch.from_numpy(numbers(name, (7, 5))) for name in ("first", "second"))
    assert float(contrast(first, second)) == pytest.approx(float(THEIRS["contrast"]), rel=1e-12)
    np.testing.assert_allclose(nearest_distances(first, 3 * second), THEIRS["distances"], rtol=1e-9)
    assert float(THEIRS["distances"].max()) < 50**0.5  # not cut off; the next is
    assert nearest_distances(first, second + 100).tolist() == pytest.approx([50**0.5] * 7)


def test_the_loss_and_its_gradients_are_the_authors(adaptors):
    loss, norms = loss_of(adaptors)
    assert loss == pytest.approx(float(THEIRS["loss"]), rel=1e-9)
    np.testing.assert_allclose(norms, THEIRS["gradient_norms"], rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "turned"),
    [
        ("TEMPERATURE", 0.5),
        ("TURNED_WEIGHT", 0.5),
        ("TURNED_SHARE", 3),
        ("GLOBAL_WEIGHT", -0.1),
        ("COMPACT_WEIGHT", 0.8),
        ("COMPACT_GLOBAL_WEIGHT", 0.0),
        ("_MOST", 1e-3),
        ("contrast", lambda first, second: losses.F.mse_loss(first, second)),
        ("compactness", lambda *arguments: torch.zeros((), dtype=torch.float64)),
    ],
)
def test_another_loss_is_noticed(adaptors, name, turned, monkeypatch):
    monkeypatch.setattr(losses, name, turned)
    loss, norms = loss_of(adaptors)
    assert abs(loss / float(THEIRS["loss"]) - 1) > 1e-4
    assert np.abs(norms / THEIRS["gradient_norms"] - 1).max() > 1e-4


def test_banks_take_what_the_authors_queues_take(adaptors):
    made = banks((FULL, FULL, PARTS, PARTS))
    adaptation_loss(adaptors, given(), made, descending)
    for name, bank in zip(bank_rows(), made, strict=True):
        queued = THEIRS[f"queued_{name}"]
        np.testing.assert_allclose(bank.rows[-len(queued) :, ::32], queued, atol=1e-12)
        assert len(bank.rows) == bank.size and not bank.rows.requires_grad


def test_the_oldest_rows_are_left_out():
    bank = Bank(3)
    assert not bank.is_full
    for number in range(5):
        bank.add(torch.full((1, 2), float(number)))
    assert bank.is_full and bank.rows[:, 0].tolist() == [2, 3, 4]


def test_compactness_waits_for_full_banks(adaptors):
    waiting = float(adaptation_loss(adaptors, given(), banks((FULL + 1, FULL, PARTS, PARTS)), descending).detach())
    assert waiting < float(THEIRS["loss"]) - 0.1


def test_patches_that_show_no_part_are_compared_with_nothing(adaptors):
    """Whatever lies there, of the colour too; in the middle, where the authors' numbers would be shifted."""
    made = given()
    made.height[0, 3:5] = 0
    made.height[0, 6, 7] = 0  # a patch shows a part where none of its numbers is 0
    before = adaptation_loss(adaptors, made, banks((999,) * 4), descending)
    called = []

    def noted(first, second):
        called.append(len(first))
        return contrast(first, second)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses, "contrast", noted)
        again = adaptation_loss(adaptors, made, banks((999,) * 4), descending)
    assert called == [18, 18, 3, 2] and torch.equal(before, again)
