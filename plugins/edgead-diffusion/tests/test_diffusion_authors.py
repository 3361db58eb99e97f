"""SeaS and AnoGen equal the authors' code on the same random weights, and no longer when one thing in them is turned.

Both compute in float64, so what is left is the order of sums: 1e-9. The authors' code mixes in float32 where it
samples, and where a schedule is made: 1e-5; and where it smooths masks: 1e-7.
"""

from __future__ import annotations

import random
from functools import lru_cache

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")

import diffusion_authors as authors  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from authors import authors_numbers  # noqa: E402

from edgead_diffusion import (  # noqa: E402
    anogen_boxes,
    anogen_sampling,
    attention_maps,
    seas,
    seas_losses,
    seas_masks,
    seas_prompts,
)
from edgead_diffusion.anogen_boxes import BoxRule, draw_box  # noqa: E402
from edgead_diffusion.anogen_sampling import Blending, masked_noise_loss  # noqa: E402
from edgead_diffusion.attention_maps import CrossAttentionMaps  # noqa: E402
from edgead_diffusion.seas_masks import MaskPredictor  # noqa: E402

SEAS, ANOGEN = authors_numbers("seas"), authors_numbers("anogen")
ROUNDED = {"start": 1e-5, "sampled": 1e-5, "made": 1e-5, "focal": 1e-7}


def differing(found: dict[str, np.ndarray], theirs: dict[str, np.ndarray], tolerance: float = 1e-9) -> set[str]:
    return {
        name
        for name, value in found.items()
        if not np.allclose(value, theirs[name], *[max(tolerance, ROUNDED.get(name, 0.0))] * 2)
    }


@lru_cache(maxsize=1)
def unet():
    """That of diffusers, with the weights that the authors' own was run with."""
    diffusers = pytest.importorskip("diffusers", reason="DIFFUSION NOT TESTED: pip install ./plugins/edgead-diffusion")
    network = diffusers.UNet2DConditionModel(**authors.UNET).double()
    network.load_state_dict(authors.filled(network.state_dict()))
    return network


@torch.inference_mode()
def predict(images: int = 4) -> tuple[torch.Tensor, dict[int, torch.Tensor]]:
    """Noise of so many images, those with a defect first, and the maps of these."""
    latents, steps, words, _, _ = (x[:images] for x in authors.make_batch())
    with CrossAttentionMaps(unet()) as attention:
        predicted = unet()(latents, steps, words).sample
        return predicted, {divisor: x[:2] for divisor, x in attention.maps.items()}


predict_once = lru_cache(maxsize=1)(predict)


def found_maps(maps: dict[int, torch.Tensor]) -> dict[str, np.ndarray]:
    return {f"maps{64 // divisor}": x[:, :8, ::2, ::2].numpy() for divisor, x in maps.items()}


def found_losses() -> dict[str, np.ndarray]:
    _, _, _, noise, masks = authors.make_batch()
    predicted, maps = predict_once()
    align = seas_losses.decoupled_alignment
    return {
        "alignment": align(maps, masks, 64, seas_prompts.NORMAL, seas_prompts.ANOMALOUS).numpy(),
        "noise_losses": seas_losses.noise_losses(predicted, noise).numpy(),
    }


@lru_cache(maxsize=1)
def mask_weights() -> dict[str, torch.Tensor]:
    network = MaskPredictor()
    state = {ours: theirs_name(ours) for ours in network.state_dict() if not ours.endswith("num_batches_tracked")}
    filled = authors.filled({theirs: network.state_dict()[ours] for ours, theirs in state.items()})
    return {ours: filled[theirs] for ours, theirs in state.items()}


def mask_predictor() -> MaskPredictor:
    with torch.device("meta"):
        network = MaskPredictor()
    counts = {name: torch.tensor(0) for name in network.state_dict() if name.endswith("num_batches_tracked")}
    # Statistics change in training.
    network.load_state_dict({name: x.clone() for name, x in {**mask_weights(), **counts}.items()}, assign=True)
    return network


def theirs_name(name: str) -> str:
    """refinements.0.conv1.1.running_var -> MRM1.conv1.1.stored_var, and so on."""
    part, rest = name.split(".", 1)
    if part in ("low_feature_conv", "mid_feature_conv"):
        return f"{part}.0.{rest}"
    if part == "attention":
        for ours, theirs in (("to_", "attn1.to_"), ("to_out", "to_out.0"), ("inner", "net.0.proj"), ("outer", "net.2")):
            rest = rest.replace(ours, theirs)
        return f"mid_attn_block.attentions.0.{rest}"
    if part == "refinements":
        number, rest = rest.split(".", 1)
        part = f"MRM{int(number) + 1}"
    normalises = "1" if part.startswith("MRM") else "0"
    *where, number, kind = rest.split(".")
    if number == normalises:
        kind = {"weight": "gain", "running_mean": "stored_mean", "running_var": "stored_var"}.get(kind, kind)
    return ".".join([part, *where, number, kind])


@torch.inference_mode()
def found_masks() -> dict[str, np.ndarray]:
    network = mask_predictor()
    features, decoded = authors.make_features()
    inferred = network.eval()([x[:2] for x in features], decoded)
    whole, coarse = network.train().learn(features, decoded)
    found = {"inferred": inferred[:, 1, ::2, ::2], "whole": whole[:, 1, ::2, ::2], "coarse": coarse[:, 1]}
    return {name: value.numpy() for name, value in found.items()}


def found_focal() -> dict[str, np.ndarray]:
    masks = torch.sigmoid(9 * authors.drawn("focal masks", 2, 1, 16, 16)).clamp(0, 0.99).add(0.02).clamp(max=1)
    probabilities = authors.drawn("focal", 2, 2, 16, 16).softmax(dim=1)
    return {"focal": seas_losses.focal_loss(probabilities, masks).numpy()}


def start() -> torch.Tensor:
    good, noise = authors.drawn("good", 2, 4, 8, 8), authors.drawn("start", 2, 4, 8, 8)
    betas = (authors.SCHEDULE["beta_start"], authors.SCHEDULE["beta_end"])
    return seas.more_noise(good, noise, betas, authors.MORE_STEPS)


def found_blending(blending: Blending | None = None) -> dict[str, np.ndarray]:
    roots = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64)
    alphas = torch.cumprod(1 - roots.square(), dim=0)
    blending = blending or Blending(alphas)
    schedule = iter(["start", *(f"step {step}" for step, _, _ in blending._schedule())])
    words = authors.drawn("no prompt", 2, 3, 4), authors.drawn("prompt", 2, 3, 4)
    box = torch.from_numpy(authors.make_box() / 255)[None, None].expand(2, 1, 64, 64)
    good = authors.drawn("good", 2, 4, 8, 8)
    made = blending.sample(authors.toy_noise, words, good, box, lambda x: authors.drawn(next(schedule), *x.shape))
    return {"made": made.numpy(), "alphas": alphas[::100].numpy()}


class Draws:
    """What the authors' code draws, with Python's own generator."""

    def __init__(self, seed: int):
        self._random = random.Random(seed)

    def integers(self, low: int, high: int) -> int:
        return self._random.randint(low, high - 1)


def found_boxes() -> dict[str, np.ndarray]:
    found = []
    for number, rule in enumerate(authors.BOXES):
        rng = Draws(number)
        found += [draw_box(authors.TEMPLATE, BoxRule(*rule), rng) for _ in range(3)]
    return {"boxes": np.packbits(np.array(found) > 0)}


def found_loss() -> dict[str, np.ndarray]:
    noise, predicted, masks = authors.make_losses()
    return {"masked_loss": anogen_sampling.masked_noise_loss(predicted, noise, masks).numpy()}


def test_words_look_where_those_of_the_authors_code_do():
    predicted, maps = predict_once()
    assert not differing({"predicted": predicted[..., ::8, ::8].numpy(), **found_maps(maps), **found_losses()}, SEAS)


def test_masks_are_those_of_the_authors_code():
    assert not differing(found_masks(), SEAS)
    assert not differing(found_focal(), SEAS)


def test_the_noise_of_a_longer_schedule_is_that_of_the_authors_code():
    assert not differing({"start": start().numpy()}, SEAS)


# Of diffusers with numpy 2.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_samples_as_the_authors_solver_does():
    pytest.importorskip("diffusers", reason="DIFFUSION NOT TESTED: pip install ./plugins/edgead-diffusion")
    model = type("Model", (), {"schedule": type("Schedule", (), {"config": authors.SCHEDULE}), "device": "cpu"})
    solver = seas._solver(model, seas.SeasPlan())
    x, words = start(), authors.drawn("prompt", 2, 3, 4)
    for step in solver.timesteps:
        x = solver.step(authors.toy_noise(x, step.expand(2), words), step, x).prev_sample
    np.testing.assert_array_equal(solver.timesteps, SEAS["sampled_at"])
    assert not differing({"sampled": x.numpy()}, SEAS)


def test_anogen_equals_the_authors_code():
    assert not differing({**found_blending(), **found_boxes(), **found_loss()}, ANOGEN)
    outside = F.interpolate(torch.from_numpy(authors.make_box() / 255)[None, None], size=(8, 8), mode="nearest-exact")
    np.testing.assert_array_equal(1 - outside[0, 0], ANOGEN["outside"])


def look_at_words(monkeypatch):
    softmax = torch.Tensor.softmax

    def other(self, dim):
        return softmax(self, dim=2 if self.ndim == 4 else dim)

    monkeypatch.setattr(torch.Tensor, "softmax", other)


def first_layer_alone(monkeypatch):
    stack = torch.stack
    monkeypatch.setattr(torch, "stack", lambda layers, dim=0: stack(layers[:1], dim))


def no_scale(monkeypatch):
    monkeypatch.setattr(attention_maps.math, "sqrt", lambda x: 1.0)


@pytest.mark.parametrize("turn", [look_at_words, first_layer_alone, no_scale])
def test_turned_maps_differ(monkeypatch, turn):
    unet()
    turn(monkeypatch)
    _, maps = predict(2)
    assert differing(found_maps(maps), SEAS, 1e-6) == {"maps32", "maps16"}


def one_word(monkeypatch):
    monkeypatch.setattr(seas_prompts, "ANOMALOUS", slice(4, 5))


def beginning_for_the_part(monkeypatch):
    monkeypatch.setattr(seas_prompts, "NORMAL", 0)


def stretch_each_image(monkeypatch):
    def each(x):
        low, high = (f(x, dim=(1, 2), keepdim=True) for f in (torch.amin, torch.amax))
        return (x - low) / (high - low)

    monkeypatch.setattr(seas_losses, "_stretch", each)


def no_stretch(monkeypatch):
    monkeypatch.setattr(seas_losses, "_stretch", lambda x: x)


def average_masks(monkeypatch):
    monkeypatch.setattr(F, "max_pool2d", F.avg_pool2d)


def one_resolution(monkeypatch):
    align = seas_losses.decoupled_alignment
    only = lambda maps, *given: align({2: maps[2]}, *given)  # noqa: E731
    monkeypatch.setattr(seas_losses, "decoupled_alignment", only)


@pytest.mark.parametrize(
    "turn", [one_word, beginning_for_the_part, stretch_each_image, no_stretch, average_masks, one_resolution]
)
def test_a_turned_alignment_differs(monkeypatch, turn):
    predict_once()
    turn(monkeypatch)
    assert differing(found_losses(), SEAS, 1e-6) == {"alignment"}


def test_noise_of_all_images_alike_is_half(monkeypatch):
    monkeypatch.setattr(seas_losses, "noise_losses", F.mse_loss)
    found = found_losses()
    assert differing(found, SEAS, 1e-6) == {"noise_losses"}
    assert found["noise_losses"] == pytest.approx(SEAS["noise_losses"] / 2)


def align_no_corners(monkeypatch):
    interpolate = F.interpolate
    monkeypatch.setattr(F, "interpolate", lambda x, align_corners, **given: interpolate(x, **given))


def other_product(monkeypatch):
    chain = seas_masks.MaskRefinement._chain

    def without_5(self, x, *numbers):
        return 0 if numbers == (5,) else chain(self, x, *numbers)

    monkeypatch.setattr(seas_masks.MaskRefinement, "_chain", without_5)


def plain_feed_forward(monkeypatch):
    def forward(self, x):
        gate, x = self.inner(x).chunk(2, dim=-1)
        return self.outer(x * F.gelu(gate))

    monkeypatch.setattr(seas_masks.FeedForward, "forward", forward)


def other_heads(monkeypatch):
    monkeypatch.setattr(seas_masks, "HEADS", 4)


@pytest.mark.parametrize("turn", [align_no_corners, other_product, plain_feed_forward, other_heads])
def test_a_turned_mask_prediction_differs(monkeypatch, turn):
    turn(monkeypatch)
    assert differing(found_masks(), SEAS, 1e-6) >= {"inferred", "whole"}


def test_refined_good_parts_differ(monkeypatch):
    """Good parts are enlarged alone in training; the statistics of a batch carry that to all of it."""
    interpolate = F.interpolate
    nearest = {"mode": "nearest-exact"}

    def other(x, **given):
        return interpolate(x, scale_factor=8, **nearest) if given.get("scale_factor") == 8 else interpolate(x, **given)

    monkeypatch.setattr(F, "interpolate", other)
    assert differing(found_masks(), SEAS, 1e-6) == {"whole"}


@pytest.mark.parametrize("value", [0.0, 1e-3])
def test_another_focal_loss_differs(monkeypatch, value):
    monkeypatch.setattr(seas_losses, "SMOOTH", value)
    assert differing(found_focal(), SEAS, 1e-6) == {"focal"}


@pytest.mark.parametrize(
    "settings", [{"steps": 40}, {"guidance": 1.0}, {"guidance": 9.9}], ids=["steps", "no guidance", "less guidance"]
)
def test_another_sampling_differs(settings):
    roots = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64)
    blending = Blending(torch.cumprod(1 - roots.square(), dim=0), **settings)
    assert differing(found_blending(blending), ANOGEN, 1e-4) == {"made"}


def end_at_no_noise(monkeypatch):
    schedule = Blending._schedule

    def other(self):
        *steps, (step, alpha, _) = schedule(self)
        return [*steps, (step, alpha, torch.ones(()))]

    monkeypatch.setattr(Blending, "_schedule", other)


def begin_at_0(monkeypatch):
    schedule = Blending._schedule
    monkeypatch.setattr(Blending, "_schedule", lambda self: [(s - 1, a, p) for s, a, p in schedule(self)])


def first_pixel_of_a_box(monkeypatch):
    interpolate = F.interpolate
    monkeypatch.setattr(F, "interpolate", lambda x, size, mode: interpolate(x, size, mode="nearest"))


def blend_nothing(monkeypatch):
    monkeypatch.setattr(F, "interpolate", lambda x, size, mode: torch.ones(len(x), 1, *size, dtype=x.dtype))


@pytest.mark.parametrize("turn", [end_at_no_noise, begin_at_0, first_pixel_of_a_box, blend_nothing])
def test_a_turned_blending_differs(monkeypatch, turn):
    drawn = authors.drawn
    names = {f"step {step - 1}": f"step {step}" for step in range(1, 1000, 20)} if turn is begin_at_0 else {}
    turn(monkeypatch)
    monkeypatch.setattr(authors, "drawn", lambda name, *shape: drawn(names.get(name, name), *shape))
    assert differing(found_blending(), ANOGEN, 1e-4) == {"made"}


@pytest.mark.parametrize(
    "loss",
    [
        lambda found, noise, masks: F.mse_loss(found, noise),
        lambda found, noise, masks: ((found - noise).square() * F.interpolate(masks, size=(8, 8), mode="area")).mean(),
        lambda found, noise, masks: masked_noise_loss(found, noise, masks) * 64,
    ],
    ids=["everywhere", "by share", "by area"],
)
def test_another_loss_of_a_word_differs(monkeypatch, loss):
    monkeypatch.setattr(anogen_sampling, "masked_noise_loss", loss)
    assert differing(found_loss(), ANOGEN, 1e-6) == {"masked_loss"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ON_PART", 0.99),
        ("_turn", lambda box, degrees: box),
        ("_turn", lambda box, degrees: anogen_boxes.cv2.rotate(box, 0)),
    ],
    ids=["share", "not turned", "turned about the middle"],
)
def test_another_box_rule_differs(monkeypatch, name, value):
    monkeypatch.setattr(anogen_boxes, name, value)
    assert differing(found_boxes(), ANOGEN) == {"boxes"}


def test_the_map_of_names_is_whole():
    names = [theirs_name(x) for x in MaskPredictor().state_dict() if not x.endswith("num_batches_tracked")]
    assert len(names) == len(set(names)) == 201
