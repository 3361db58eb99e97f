"""StRegA equals the authors' code on the same random weights, and no longer when one thing in it is turned.

Both compute in float64, so what is left is the order of sums: 1e-9.
"""

from __future__ import annotations

import random

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")

import torch.nn.functional as F  # noqa: E402
from authors import authors_numbers, numbers  # noqa: E402
from strega_authors import (  # noqa: E402
    AREA,
    BETA,
    ERRORS,
    LATENT,
    SHARE,
    SIDE,
    SQUARES,
    THETA,
    WIDTHS,
    parameter,
    slices,
    volume,
)
from torch import nn  # noqa: E402

from edgead_reconstruction.strega import losses, opening  # noqa: E402
from edgead_reconstruction.strega import network as networks  # noqa: E402
from edgead_reconstruction.strega.losses import Geco, noise_squares, put_on, total_loss  # noqa: E402
from edgead_reconstruction.strega.network import Vae  # noqa: E402
from edgead_reconstruction.strega.opening import find_lesions, otsu_threshold  # noqa: E402

THEIRS = authors_numbers("strega")
X = torch.from_numpy(slices())[:, None]
SQUARED = put_on(X, 0.6 * torch.from_numpy(slices("squares") > 0.8).double())
NOISES = tuple(torch.from_numpy(numbers(name, (3, LATENT, 1, 1))) for name in ("noise", "noise of context"))


def authors_name(name: str) -> str:
    """encoder.0.weight -> enc.start.conv.weight, encoder.3.weight -> enc.middle_blocks.1.activation.weight, ..."""
    part, number, what = name.split(".")
    block, kind = divmod(int(number), 2)
    place = "start" if block == 0 else "end" if block == len(WIDTHS) else f"middle_blocks.{2 * block - 1}"
    return f"{part[:3]}.{place}.{('conv', 'activation')[kind]}.{what}"


@pytest.fixture
def vae() -> Vae:
    vae = Vae((SIDE, SIDE), WIDTHS, LATENT).double()
    state = {name: parameter(authors_name(name), tuple(x.shape)) for name, x in vae.state_dict().items()}
    vae.load_state_dict({name: torch.from_numpy(x) for name, x in state.items()})
    return vae


def found_by(vae: Vae) -> dict[str, np.ndarray]:
    mean, log_std = vae.encode(X)
    rebuilt, *code = losses.rebuild(vae, X, NOISES[0])
    theta = torch.tensor(THETA, dtype=torch.float64)
    loss, error = total_loss(vae, X, SQUARED, NOISES, theta=theta, beta=BETA, share=SHARE)
    loss.backward()
    norms = {authors_name(name): float(p.grad.norm()) for name, p in vae.named_parameters()}
    found = {
        "mean": mean,
        "std": log_std.exp(),
        "rebuilt": vae.decode(mean),
        "kl": losses.kl_divergence(*code),
        "error": error,
        "loss": loss,
        "gradient_norms": torch.tensor([norms[name] for name in sorted(norms)], dtype=torch.float64),
    }
    return {name: x.detach().numpy() for name, x in found.items()}


def differing(found: dict[str, np.ndarray], tolerance: float = 1e-9) -> set[str]:
    return {name for name, x in found.items() if not np.allclose(x, THEIRS[name], tolerance, atol=tolerance)}


def test_network_losses_and_gradients_equal_the_authors_code(vae):
    found = found_by(vae)
    assert len(found) == 7 and not differing(found)


def test_the_graph_gives_the_residual_of_the_authors_reconstruction(vae, monkeypatch):
    network = networks.SliceNetwork(vae, segment=False, sign="darker")
    monkeypatch.setattr(network, "prepare", lambda image: X)
    with torch.inference_mode():
        found = network(torch.empty(0)).numpy()
    expected = np.where(X.numpy() == 0, 0, np.maximum(THEIRS["rebuilt"] - X.numpy(), 0))[:, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_the_map_of_names_is_whole(vae):
    names = {authors_name(name) for name in vae.state_dict()}
    assert len(names) == len(vae.state_dict()) == THEIRS["gradient_norms"].size


def leak_as_usual(vae, monkeypatch):
    monkeypatch.setattr(nn.PReLU, "forward", lambda self, x: F.leaky_relu(x, 0.01) + 0 * self.weight)


def activate_the_end(vae, monkeypatch):
    vae.decoder.append(nn.ReLU())


def deviation_first(vae, monkeypatch):
    encode = vae.encode
    monkeypatch.setattr(vae, "encode", lambda slices: encode(slices)[::-1])


def other_slopes(vae, monkeypatch):
    vae.encoder[1].weight.data += 0.1


def turned_kernels(vae, monkeypatch):
    vae.decoder[2].weight.data = vae.decoder[2].weight.data.flip(2)


@pytest.mark.parametrize("turn", [leak_as_usual, activate_the_end, deviation_first, other_slopes, turned_kernels])
def test_a_turned_network_differs(vae, monkeypatch, turn):
    turn(vae, monkeypatch)
    assert differing(found_by(vae), tolerance=1e-6) >= {"rebuilt", "error", "loss", "gradient_norms"}


KL, L1, REBUILD = losses.kl_divergence, losses.absolute_error, losses.rebuild


@pytest.mark.parametrize(
    ("name", "value", "differs"),
    [
        ("kl_divergence", lambda mean, log_std: 2 * KL(mean, log_std), {"kl", "loss"}),
        ("kl_divergence", lambda mean, log_std: KL(mean, 0.5 * log_std), {"kl", "loss"}),
        ("kl_divergence", lambda mean, log_std: LATENT * KL(mean, log_std), {"kl", "loss"}),
        ("absolute_error", lambda a, b: (a - b).square().mean(), {"error", "loss"}),
        ("absolute_error", lambda a, b: L1(a, b) * b[0].numel(), {"error", "loss"}),
        ("rebuild", lambda vae, x, noise: REBUILD(vae, x, torch.zeros_like(noise)), {"error", "loss"}),
        ("rebuild", lambda vae, x, noise: REBUILD(vae, X, noise), {"loss"}),
    ],
    ids=["twice", "variance", "sum of codes", "square", "sum of pixels", "no noise", "no squares"],
)
def test_a_turned_loss_differs(vae, monkeypatch, name, value, differs):
    monkeypatch.setattr(losses, name, value)
    assert differing(found_by(vae), tolerance=1e-6) == differs | {"gradient_norms"}


@pytest.mark.parametrize("turned", [{"share": 1 - SHARE}, {"beta": BETA / 2}, {"theta": torch.tensor(1.0)}])
def test_other_weights_differ(vae, turned):
    weights = {"theta": torch.tensor(THETA, dtype=torch.float64), "beta": BETA, "share": SHARE, **turned}
    assert abs(float(total_loss(vae, X, SQUARED, NOISES, **weights)[0].detach()) - THEIRS["loss"]) > 1e-6


def test_squares_are_compared_with_the_clean_slices(vae):
    weights = {"theta": torch.tensor(THETA, dtype=torch.float64), "beta": BETA, "share": 1.0}
    with torch.no_grad():
        clean, _ = total_loss(vae, X, SQUARED, NOISES, **weights)
        rebuilt, *_ = losses.rebuild(vae, SQUARED, NOISES[1])
    torch.testing.assert_close(clean, (rebuilt - X).abs().mean())
    assert abs(float(clean - (rebuilt - SQUARED).abs().mean())) > 1e-3


def thetas() -> np.ndarray:
    geco, found = Geco().double(), []
    for error in ERRORS:
        geco.update(torch.tensor(error, dtype=torch.float64))
        found.append(float(geco.theta))
    return np.array(found)


def test_the_weight_of_the_reconstruction_equals_the_authors_code():
    np.testing.assert_allclose(thetas(), THEIRS["thetas"], rtol=1e-12)


@pytest.mark.parametrize(("name", "value"), [("GOAL", 0.2), ("STEP", 1e-3), ("SPEED_UP", 1.0), ("MEMORY", 0.5)])
def test_another_course_of_the_weight_differs(monkeypatch, name, value):
    monkeypatch.setattr(losses, name, value)
    assert np.abs(thetas() - THEIRS["thetas"]).max() > 1e-6


class Seeded:
    """What the authors' generators draw after seed 0: values and sizes of Python's, places of numpy's."""

    def __init__(self) -> None:
        self.values, self.places = random.Random(0), np.random.RandomState(0)

    def uniform(self, low: float, high: float) -> float:
        return self.values.uniform(low, high)

    def integers(self, low: int, high: int) -> int:
        return int(self.places.randint(low, high))


def test_squares_equal_the_authors_code():
    found = noise_squares(SQUARES, 0.1, 0.9, Seeded())
    np.testing.assert_array_equal(found, THEIRS["squares"])
    counts = {int(one.any()) for one in found}
    assert counts == {0, 1}  # some slices have none


def test_squares_of_another_number_or_place_differ(monkeypatch):
    class Swapped(Seeded):
        def integers(self, low: int, high: int) -> int:
            return high - 1 - super().integers(low, high)

    assert not np.array_equal(noise_squares(SQUARES, 0.1, 0.9, Swapped()), THEIRS["squares"])
    monkeypatch.setattr(losses, "MOST_SQUARES", 4)
    assert not np.array_equal(noise_squares(SQUARES, 0.1, 0.9, Seeded()), THEIRS["squares"])


def test_the_second_square_wipes_out_the_first_in_the_authors_code():
    """Two squares of one slice would have two values; the authors' slices have one."""
    assert all(np.unique(one[one != 0]).size <= 1 for one in THEIRS["squares"])
    drawn = [int(Seeded.uniform(seeded, 0, 3)) for seeded in [Seeded()] for _ in range(50)]
    assert set(drawn) == {0, 1, 2}


def lesions(image: np.ndarray, rebuilt: np.ndarray) -> np.ndarray:
    return find_lesions(image, rebuilt, area=AREA)


def test_lesions_equal_the_authors_pipeline():
    image, rebuilt = volume()
    difference = np.maximum(rebuilt - image, 0)
    difference[difference > 0.2] = 1
    assert otsu_threshold(difference) == THEIRS["otsu"]
    np.testing.assert_array_equal(lesions(image, rebuilt), THEIRS["lesions"])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CUT", 0.15),
        ("BINS", 4),
        ("open_by_area", lambda mask, area: mask),
        ("open_by_area", lambda mask, area: opening_by(mask, area, connectivity=8)),
        ("open_by_area", lambda mask, area: opening_by(mask, area + 1, connectivity=4)),
    ],
    ids=["cut", "bins", "not opened", "by corners", "more than the area"],
)
def test_another_pipeline_differs(monkeypatch, name, value):
    image, rebuilt = volume()
    monkeypatch.setattr(opening, name, value)
    assert not np.array_equal(lesions(image, rebuilt), THEIRS["lesions"])


def opening_by(mask: np.ndarray, area: int, connectivity: int) -> np.ndarray:
    import cv2

    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=connectivity)
    return (statistics[:, cv2.CC_STAT_AREA] >= area)[labels] & mask


def test_lesions_are_darker_than_their_reconstruction_and_not_in_the_background():
    image, rebuilt = volume()
    assert not np.array_equal(lesions(rebuilt, image), THEIRS["lesions"])
    assert not (THEIRS["lesions"] & (image == 0)).any() and (image == 0).any()
    darker = networks.residual(torch.from_numpy(image), torch.from_numpy(rebuilt), "darker").numpy()
    assert (darker[THEIRS["lesions"]] > 0).all() and (darker[image == 0] == 0).all()
