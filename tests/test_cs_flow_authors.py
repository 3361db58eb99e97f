"""CS-Flow equals the authors' code on the same random weights, and no longer when one thing in it is turned.

Both compute in float64, so what is left is the order of sums: 1e-9. The loss takes squares in float32: 1e-6.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")

import torch.nn.functional as F  # noqa: E402
from authors import authors_numbers, load_weights, weight  # noqa: E402
from cs_flow_authors import CHANNELS, HIDDEN, draw_maps  # noqa: E402
from torch import nn  # noqa: E402

from edgead.workstation.methods.cs_flow import detector as cs_flow  # noqa: E402
from edgead.workstation.methods.cs_flow import flow as cross_scale_flow  # noqa: E402
from edgead.workstation.methods.cs_flow.detector import CsFlow, CsFlowConfig, CsFlowNetwork  # noqa: E402
from edgead.workstation.methods.cs_flow.flow import Coupling, CrossScaleFlow, FlowShape, soft_clamp  # noqa: E402
from edgead.workstation.methods.method import Course  # noqa: E402

KERNELS = (3, 3, 3, 5)
MAPS = draw_maps()
THEIRS = authors_numbers("cs_flow")


def rounded_clamp(x: torch.Tensor, limit: float) -> torch.Tensor:
    """The authors' code has 0.636 where the paper has 2 / pi."""
    return 0.636 * limit * torch.atan(x / limit)


@pytest.fixture
def flow(monkeypatch) -> CrossScaleFlow:
    monkeypatch.setattr(cross_scale_flow, "soft_clamp", rounded_clamp)
    return authors_flow()


def authors_flow() -> CrossScaleFlow:
    flow = CrossScaleFlow(FlowShape(3, CHANNELS, HIDDEN), KERNELS, 0).double()
    for number, block in enumerate(flow.blocks):
        # Their nodes: three inputs, then a permutation and a coupling for each block. Their s2 is our first.
        node = f"module_list.{4 + 2 * number}"
        for ours, theirs in ((block.first, f"{node}.s2"), (block.second, f"{node}.s1")):
            load_weights(ours, lambda name, theirs=theirs: authors_name(name, theirs))
            ours.gain.data = torch.from_numpy(np.concatenate([weight(f"{theirs}.gamma{i}", (1,)) for i in range(3)]))
        for scale, order in enumerate(THEIRS["orders"][number]):
            block.get_buffer(f"order{scale}").copy_(torch.from_numpy(order))
    return flow.eval()


def authors_name(name: str, prefix: str) -> str:
    """into.0.weight -> PREFIX.conv_scale0_0.weight, and so on."""
    if name == "gain":
        return f"{prefix}.gain"  # three numbers of theirs, which are set on their own
    kind, scale, what = name.split(".")
    fine = int(scale)
    convolution = {
        "into": f"conv_scale{fine}_0",
        "out": f"conv_scale{fine}_1",
        "up": f"up_conv{fine + 1}{fine}",
        "down": f"down_conv{fine}{fine + 1}",
    }[kind]
    return f"{prefix}.{convolution}.{what}"


def ours(flow: CrossScaleFlow) -> dict[str, np.ndarray]:
    network = CsFlowNetwork(nn.Identity(), CHANNELS, CsFlowConfig(hidden=HIDDEN)).double()  # whitening: none
    network.flow, network.levels = flow, lambda image: MAPS
    with torch.inference_mode():
        z, log_determinant = flow(MAPS)
        loss = cs_flow.negative_log_likelihood(z, log_determinant)
        _, score = network(torch.zeros(0))
    results = {f"z{i}": x for i, x in enumerate(z)}
    return {**results, "log_determinant": log_determinant, "loss": loss, "score": score}


def expected() -> dict[str, np.ndarray]:
    # Their log-determinant is one for each scale; their score halves the mean of z^2.
    summed = {"log_determinant": THEIRS["log_determinant"].sum(axis=0), "score": 2 * THEIRS["score"]}
    return {**{name: THEIRS[name] for name in ("z0", "z1", "z2", "loss")}, **summed}


def differing(found: dict[str, np.ndarray], tolerance: float = 1e-9) -> set[str]:
    tolerances = {"loss": max(1e-6, tolerance)}
    return {
        name
        for name, value in expected().items()
        if not np.allclose(found[name], value, rtol=tolerances.get(name, tolerance), atol=tolerance)
    }


def test_equal_to_the_authors_code(flow):
    assert not differing(ours(flow))


def test_the_papers_clamp_moves_scores_by_less_than_a_hundredth():
    flow = authors_flow()
    assert soft_clamp(torch.tensor(1.0), 1.0) == pytest.approx(2 / math.pi * math.atan(1))
    ratio = ours(flow)["score"].numpy() / expected()["score"]
    assert 1e-5 < np.abs(ratio - 1).max() < 0.01
    assert differing(ours(flow)) == expected().keys()


def invert_orders(flow, monkeypatch):
    for block in flow.blocks:
        for order in block.buffers():
            order.copy_(order.argsort())


def share_orders(flow, monkeypatch):
    for block in flow.blocks:
        for scale in (1, 2):
            block.get_buffer(f"order{scale}").copy_(block.order0)


def skip_orders(flow, monkeypatch):
    for block in flow.blocks:
        for scale in range(3):
            block.get_buffer(f"order{scale}").copy_(torch.arange(CHANNELS))


def open_gates(flow, monkeypatch):
    for block in flow.blocks:
        block.first.gain.data.fill_(1.0)
        block.second.gain.data.fill_(1.0)


def swap_gates(flow, monkeypatch):
    flow.blocks[1].first.gain.data = flow.blocks[1].first.gain.data.flip(0)


def turn_clamp(flow, monkeypatch):
    monkeypatch.setattr(cross_scale_flow, "soft_clamp", lambda x, limit: -rounded_clamp(x, limit))


def drop_clamp(flow, monkeypatch):
    monkeypatch.setattr(cross_scale_flow, "soft_clamp", lambda x, limit: x)


def tighten_clamp(flow, monkeypatch):
    for block in flow.blocks:
        block.clamp = 1.9


def swap_scale_and_shift(flow, monkeypatch):
    transform = Coupling._transform

    def swapped(self, maps, parameters):
        return transform(self, maps, [torch.cat(x.chunk(2, dim=1)[::-1], dim=1) for x in parameters])

    monkeypatch.setattr(Coupling, "_transform", swapped)


def change_the_other_half_first(flow, monkeypatch):
    def forward(self, maps):
        shuffled = [x[:, self.get_buffer(f"order{scale}")] for scale, x in enumerate(maps)]
        one, other = [x[:, : self.split_at] for x in shuffled], [x[:, self.split_at :] for x in shuffled]
        other, log_second = self._transform(other, self.second(one))
        one, log_first = self._transform(one, self.first(other))
        return [torch.cat(halves, dim=1) for halves in zip(one, other, strict=True)], log_first + log_second

    monkeypatch.setattr(Coupling, "forward", forward)


def enlarge_last(flow, monkeypatch):
    for block in flow.blocks:
        block.first.enlarge_first = block.second.enlarge_first = False


def align_corners(flow, monkeypatch):
    monkeypatch.setattr(
        cross_scale_flow, "enlarge", lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)
    )


def enlarge_by_repetition(flow, monkeypatch):
    monkeypatch.setattr(cross_scale_flow, "enlarge", lambda x: F.interpolate(x, scale_factor=2.0))


def swap_up_convolutions(flow, monkeypatch):
    up = flow.blocks[2].second.up
    up[0], up[1] = up[1], up[0]


def change_slope(flow, monkeypatch):
    monkeypatch.setattr(cross_scale_flow, "SLOPE", 0.01)


def pad_with_copies(flow, monkeypatch):
    for module in flow.modules():
        if isinstance(module, nn.Conv2d):
            module.padding_mode = "replicate"
            module._reversed_padding_repeated_twice = [module.padding[0]] * 4


@pytest.mark.parametrize(
    "turn",
    [
        invert_orders,
        share_orders,
        skip_orders,
        open_gates,
        swap_gates,
        turn_clamp,
        drop_clamp,
        tighten_clamp,
        swap_scale_and_shift,
        change_the_other_half_first,
        enlarge_last,
        align_corners,
        enlarge_by_repetition,
        swap_up_convolutions,
        change_slope,
        pad_with_copies,
    ],
)
def test_a_turned_flow_differs(flow, monkeypatch, turn):
    turn(flow, monkeypatch)
    assert differing(ours(flow), tolerance=1e-4) == expected().keys()


@pytest.mark.parametrize(
    "loss",
    [
        lambda z, log_determinant: cross_scale_flow.negative_log_likelihood(z, -log_determinant),
        lambda z, log_determinant: cross_scale_flow.negative_log_likelihood(z, 0 * log_determinant),
        lambda z, log_determinant: cross_scale_flow.negative_log_likelihood(
            [math.sqrt(2) * x for x in z], log_determinant
        ),
        lambda z, log_determinant: cross_scale_flow.negative_log_likelihood(z[:1], log_determinant),
    ],
    ids=["sign of the log-determinant", "no log-determinant", "no half", "one scale"],
)
def test_a_turned_loss_differs(flow, monkeypatch, loss):
    monkeypatch.setattr(cs_flow, "negative_log_likelihood", loss)
    assert differing(ours(flow), tolerance=1e-4) == {"loss"}


@pytest.fixture(scope="module")
def model() -> CsFlow:
    """Four steps of the whole batch, as the authors' code made."""
    settings = {"hidden": HIDDEN, "steps": 4, "batch_size": len(MAPS[0]), "learning_rate": 1e-2}
    settings |= {"backbone": "efficientnet_lite0", "image_size": (64, 64)}
    return CsFlow.from_settings(settings, pretrained=False)


@pytest.fixture
def trained_score(model, flow):
    def train() -> np.ndarray:
        model.network.flow = flow
        model._train(MAPS, Course())
        return ours(flow)["score"].numpy() / (2 * THEIRS["trained_score"])

    return train


def test_learns_as_the_authors_code_does(trained_score):
    # The first of the four gradients has a norm of 6.5, which is clipped to 1; the others are below.
    assert THEIRS["gradient_norms"][0] > 2 and THEIRS["gradient_norms"][1:].max() < 1
    np.testing.assert_allclose(trained_score(), 1, rtol=1e-5)  # the loss takes squares in float32


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{"eps": 1e-8}, {"weight_decay": 0.0}, {"lr": 9.9e-3}, {"betas": (0.9, 0.99)}], ids=str
)
def test_another_optimizer_learns_otherwise(trained_score, monkeypatch, settings):
    adam = torch.optim.Adam
    monkeypatch.setattr(torch.optim, "Adam", lambda parameters, **ours: adam(parameters, **{**ours, **settings}))
    assert np.abs(trained_score() - 1).max() > 2e-5


@pytest.mark.slow
def test_gradients_that_are_not_clipped_learn_otherwise(trained_score, monkeypatch):
    monkeypatch.setattr(nn.utils, "clip_grad_norm_", lambda parameters, norm: None)
    assert np.abs(trained_score() - 1).max() > 1e-3
