"""The predictor of MemoryOut equals the authors' code on the same random weights, and no longer with one thing turned.

Both compute in float64, so what is left is the order of sums: 1e-9.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")

from authors import authors_numbers  # noqa: E402
from memoryout_authors import (  # noqa: E402
    BOTTLENECK,
    CHOSEN,
    DIM,
    EXPERTS,
    GRID,
    LAYERS,
    PATCH,
    SEEN,
    SEMANTIC,
    features,
    frames,
    parameter,
    semantic,
)
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from edgead_video.memoryout import filtering, network  # noqa: E402
from edgead_video.memoryout.detector import BALANCE_WEIGHT  # noqa: E402
from edgead_video.memoryout.losses import motion_loss, semantic_error  # noqa: E402
from edgead_video.memoryout.network import FramePredictor  # noqa: E402

THEIRS = authors_numbers("memoryout")


def of_block(theirs: str, block: nn.Module) -> dict[str, nn.Module]:
    names = {"norm1": "attention_norm", "attn.qkv": "qkv", "attn.proj": "out", "norm2": "mlp_norm"}
    names |= {"mlp.fc1": "mlp.0", "mlp.fc2": "mlp.2"}
    return {f"{theirs}.{name}": block.get_submodule(ours) for name, ours in names.items()}


def by_authors_names(predictor: FramePredictor, pick: Callable[[nn.Parameter], Tensor]) -> dict[str, Tensor]:
    """What `pick` takes of each parameter, as views, by the names that the authors' code has."""
    whole: dict[str, nn.Module] = {
        "visual_project": predictor.seen_in,
        "patch_emb_project": predictor.appearance_in,
        "temporal_project": predictor.time,
        "text_project": predictor.semantic_in,
        "motion_encoder.patch_emb.proj": predictor.motion.embed,
        "frame_diff_project": predictor.motion_in,
        "decoder.decoder_norm": predictor.norm,
        "decoder.decoder_pred": predictor.pixels,
    }
    for name, chain in (("rgb_project", predictor.fuse), ("final_conv", predictor.smooth)):
        whole |= {f"decoder.{name}.{at}": chain[at] for at in (0, 2)}
    whole |= {f"decoder.text_recon.{at}": predictor.semantic_out[at] for at in (0, 2)}
    found = {"motion_encoder.cls_token": pick(predictor.motion.summary)}
    for at in range(LAYERS):
        whole |= of_block(f"motion_encoder.encoder_blocks.{at}", predictor.motion.blocks[at])
        whole |= of_block(f"decoder.decoder_blocks.{at}", predictor.blocks[at])
        joint, theirs = predictor.joint[at], f"joint_cross_attn.blocks.{at}"
        norms = {"ln_attn": "seen", "ln_y": "semantic", "ln_z": "motion", "ln_ff": "mlp"}
        whole |= {f"{theirs}.{name}": joint.norms[ours] for name, ours in norms.items()}
        whole |= {f"{theirs}.attn.to_q": joint.queries, f"{theirs}.attn.out_proj": joint.out}
        whole |= {f"{theirs}.ff.net.0": joint.mlp[0], f"{theirs}.ff.net.3": joint.mlp[2]}
        for letter, both in (("y", joint.semantic), ("z", joint.motion)):
            for kind in ("weight", "bias"):
                halves = pick(getattr(both, kind)).chunk(2)
                found |= {f"{theirs}.attn.to_{k}_{letter}.{kind}": half for k, half in zip("kv", halves, strict=True)}
        for kind, gain in zip(("attn", "ff"), pick(joint.gains).chunk(2), strict=True):
            found[f"joint_cross_attn.{kind}_gammas.{at}"] = gain
        one = predictor.filters[at]
        found[f"decoder.moes.{at}.gate.weight"] = pick(one.gate)
        sets = {f"experts.{number}": (one.experts, number) for number in range(EXPERTS)}
        for name, (experts, number) in {**sets, "shared_experts": (one.shared, 0)}.items():
            for layer, ours in (("pre_norm", "norm"), ("down_proj", "down"), ("up_proj", "up")):
                for kind in ("weight", "bias"):
                    value = pick(getattr(experts, f"{ours}_{kind}"))[number]
                    found[f"decoder.moes.{at}.{name}.{layer}.{kind}"] = value
    for name, module in whole.items():
        found |= {f"{name}.{kind}": pick(value) for kind, value in module.named_parameters()}
    return found


@pytest.fixture
def predictor() -> FramePredictor:
    sizes = {"dim": DIM, "layers": LAYERS, "grid": GRID, "patch": PATCH, "bottleneck": BOTTLENECK}
    predictor = FramePredictor((SEEN, SEEN, SEMANTIC), **sizes, experts=EXPERTS, chosen=CHOSEN).double()
    predictor.places, predictor.motion.places = (
        network.place_codes(dim, GRID, others).double() for dim, others in ((DIM, 2), (DIM // 2, 1))
    )
    for name, value in by_authors_names(predictor, lambda parameter: parameter.data).items():
        value.copy_(torch.from_numpy(np.asarray(parameter(name, tuple(value.shape)))))
    return predictor


def found_by(predictor: FramePredictor) -> dict[str, np.ndarray]:
    given, came = frames()[:, :4], frames()[:, 4]
    frame, again, uneven = predictor(given, features("seen"), features("appearance")[:, -1], semantic())
    motion = motion_loss(frame, came, given[:, -1])
    loss = F.mse_loss(frame, came) + semantic_error(again, semantic()).mean() + motion
    (loss + BALANCE_WEIGHT * uneven).backward()
    gradients = by_authors_names(predictor, lambda parameter: parameter.grad)
    found = {
        "frame": frame[:, :, ::5, ::3],
        "semantic": again,
        "squared_errors": (came - frame).square().mean((1, 2, 3)),
        "semantic_errors": semantic_error(again, semantic()),
        "motion_loss": motion,
        "loss": loss,
        "balance_loss": BALANCE_WEIGHT * uneven,
        "gradient_norms": torch.stack([gradients[name].norm() for name in sorted(gradients)]),
    }
    return {name: x.detach().numpy() for name, x in found.items()}


def differing(found: dict[str, np.ndarray], tolerance: float = 1e-9) -> set[str]:
    return {name for name, x in found.items() if not np.allclose(x, THEIRS[name], tolerance, atol=tolerance)}


def test_predictions_losses_and_gradients_equal_the_authors_code(predictor):
    found = found_by(predictor)
    assert found.keys() == THEIRS.keys() and not differing(found)


def test_the_map_of_names_is_whole(predictor):
    named = by_authors_names(predictor, lambda parameter: parameter.data)
    assert sum(x.numel() for x in named.values()) == sum(x.numel() for x in predictor.parameters())


def columns_last(predictor, monkeypatch):
    for part in (predictor, predictor.motion):
        half = part.places.shape[1] // 2
        part.places = torch.cat([part.places[:, half:], part.places[:, :half]], dim=1)


def leave_weights_as_they_are(predictor, monkeypatch):
    route = filtering.route

    def plain(tokens, gate, chosen):
        routing = route(tokens, gate, chosen)
        return routing._replace(weights=(routing.weights > 0) * filtering.SCALE * routing.scores)

    monkeypatch.setattr(filtering, "route", plain)


def choose_one_less(predictor, monkeypatch):
    for each in predictor.filters:
        each.chosen -= 1


def go_around_the_filters(predictor, monkeypatch):
    forward = filtering.Filter.forward
    monkeypatch.setattr(filtering.Filter, "forward", lambda self, x: (forward(self, x)[0] + x, forward(self, x)[1]))


def share_nothing(predictor, monkeypatch):
    for each in predictor.filters:
        each.shared.up_weight.data.zero_()
        each.shared.up_bias.data.zero_()


def see_no_motion(predictor, monkeypatch):
    predictor.motion_in.weight.data.zero_()


def smooth_without_a_slope(predictor, monkeypatch):
    predictor.smooth[1] = nn.ReLU()


def do_not_cut_the_loss(predictor, monkeypatch):
    monkeypatch.setattr(Tensor, "clamp", lambda self, **_: self)


@pytest.mark.parametrize(
    ("turn", "least"),
    [
        (columns_last, {"frame", "semantic"}),
        (leave_weights_as_they_are, {"frame", "semantic"}),
        (choose_one_less, {"frame", "semantic", "balance_loss"}),
        (go_around_the_filters, {"frame", "semantic"}),
        (share_nothing, {"frame", "semantic"}),
        (see_no_motion, {"frame", "semantic"}),
        (smooth_without_a_slope, {"frame", "squared_errors"}),
        (do_not_cut_the_loss, {"motion_loss", "loss", "gradient_norms"}),
    ],
)
def test_one_thing_turned_differs(turn, least, predictor, monkeypatch):
    turn(predictor, monkeypatch)
    assert least <= differing(found_by(predictor), 1e-4)
