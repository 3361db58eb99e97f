"""Detectors from words equal public code on the same random weights, and no longer when one thing is turned.

Both compute in float32: what is left is the order of sums, 1e-5 of the largest number.
"""

from __future__ import annotations

import copy
import dataclasses

import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")
pytest.importorskip("timm", reason="foundation backbones are timm's")
pytest.importorskip("open_clip", reason="text towers are OpenCLIP's")

import words_authors as authors  # noqa: E402
from words import REAL, THEIRS, build, difference, relative, small_towers  # noqa: E402, F401

from edgead_foundation.anomaly_clip import detector as anomaly_clip  # noqa: E402
from edgead_foundation.anomaly_clip import prompts as anomaly_clip_prompts  # noqa: E402
from edgead_foundation.anomaly_clip import training as anomaly_clip_training  # noqa: E402
from edgead_foundation.clip import value_paths  # noqa: E402
from edgead_foundation.crane import detector as crane  # noqa: E402
from edgead_foundation.crane import dino_attention  # noqa: E402

TOLERANCE = 1e-5
METHODS = tuple(REAL)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return tmp_path_factory.mktemp("clip")


@pytest.fixture(scope="module")
def built(files):
    return {name: build(files, name) for name in METHODS}


@pytest.fixture
def method(built, request):
    """One to change; its text tower, which is large, stays the module's."""
    found = copy.copy(built[request.param])
    found.network = copy.deepcopy(found.network)
    found.prompts = copy.deepcopy(found.prompts)
    return found


@pytest.mark.parametrize("name", METHODS)
def test_texts_maps_and_scores_are_those_of_the_public_code(name, built):
    texts = torch.from_numpy(THEIRS[f"{name}/texts"])
    torch.testing.assert_close(
        built[name].network.texts, texts / texts.norm(dim=-1, keepdim=True), rtol=0, atol=TOLERANCE
    )
    assert difference(built[name]) <= TOLERANCE


def set_norm(name):
    return lambda method: setattr(method.network.tower, name, torch.nn.Identity())


def no_positions(method):
    method.network.tower.pos_embed.zero_()


def texts_swapped(method):
    method.network.texts.copy_(method.network.texts.flip(0))


def class_token_normalised(method):
    head = method.network.tower.head
    method.network.tower.head = Head(head, method.network.tower.norm)


class Head(torch.nn.Module):
    """Normalises what is a class token alone, (n, d)."""

    def __init__(self, head, norm):
        super().__init__()
        self.head, self.norm = head, norm

    def forward(self, x):
        return self.head(self.norm(x) if x.ndim == 2 else x)


def softmax_first(method):
    network = method.network

    def forward(image):
        logits, whole = network.compare(*network.embed(image), network.texts)
        shares = logits.mean(dim=0).softmax(dim=-1)[..., 1]
        return shares.unflatten(1, network.grid), network.anomalous(whole)

    network.forward = forward


class Mean(torch.nn.Module):
    """DINOv2's attention with the mean cosine of the batch."""

    def __init__(self, attention):
        super().__init__()
        self.attention = attention

    def forward(self, image, *, one_mean):
        return self.attention(image, one_mean=True)


def mean_of_batch(method):
    method.network.dino = Mean(method.network.dino)


def dino_normalised_as_clip(method):
    method.network.dino.mean.copy_(method.network.mean)


def dino_not_normalised(method):
    method.network.dino.tower.norm = torch.nn.Identity()


def set_refined(count):
    return lambda method: setattr(method.network, "refined", count)


TURNED = {
    "no normalisation before the blocks": ("anomaly_clip", set_norm("norm_pre")),
    "no positions": ("anomaly_clip", no_positions),
    "one refined block more": ("anomaly_clip", set_refined(authors.REFINED + 1)),
    "one refined block less": ("anomaly_clip", set_refined(authors.REFINED - 1)),
    "class token normalised before its projection": ("anomaly_clip", class_token_normalised),
    "patches not normalised": ("anomaly_clip", set_norm("norm")),
    "texts of AnomalyCLIP swapped": ("anomaly_clip", texts_swapped),
    "one refined block of Crane less": ("crane", set_refined(authors.REFINED - 1)),
    "Crane's tokens not normalised": ("crane", set_norm("norm")),
    "texts of Crane swapped": ("crane", texts_swapped),
    "mean cosine of the batch": ("crane_plus", mean_of_batch),
    "pixels of DINOv2 normalised as CLIP's": ("crane_plus", dino_normalised_as_clip),
    "DINOv2 without its last normalisation": ("crane_plus", dino_not_normalised),
    "without DINOv2": ("crane_plus", lambda method: setattr(method.network, "dino", None)),
    "softmax before the map is larger": ("crane_plus", softmax_first),
    "mean of shares": ("crane_plus", lambda method: setattr(method.network, "mean_of", "shares")),
    "one refined block of Crane+ less": ("crane_plus", set_refined(authors.REFINED - 1)),
    "texts of Crane+ swapped": ("crane_plus", texts_swapped),
    "maps of four blocks": ("crane", lambda method: setattr(method.network, "blocks", authors.CRANE_LAYERS)),
}


@pytest.mark.parametrize(("method", "turn"), TURNED.values(), ids=TURNED, indirect=["method"])
def test_one_thing_turned_in_the_network_is_seen(method, turn):
    with torch.inference_mode(False), torch.no_grad():
        turn(method)
    assert difference(method) > 3 * TOLERANCE


class OfInput(torch.nn.Module):
    """A block's normalisation that sees, the second time, what it saw the first time: what came into the block."""

    def __init__(self, norm):
        super().__init__()
        self.norm, self.seen = norm, []

    def forward(self, x):
        self.seen.append(x)
        return self.norm(self.seen[-2 if len(self.seen) % 2 == 0 else -1])


def values_of_input(method):
    block = method.network.tower.blocks[authors.PLUS_LAYERS[0] - 1]
    block.norm1 = OfInput(block.norm1)


@pytest.mark.parametrize("method", ["crane_plus"], indirect=True)
def test_values_of_what_comes_into_the_block_are_seen(method):
    values_of_input(method)
    assert difference(method) > 3 * TOLERANCE


def beside_the_refined_path(tower, tokens, blocks, refined, attention, beside):
    (last,) = blocks
    first, (before, after) = value_paths.two_paths(tower, tokens, (last - 1, last), refined, attention)
    return first, [beside(tower.blocks[last - 1], before), after]


def refined_path_alone(tower, tokens, blocks, refined, attention, beside):
    del beside
    return value_paths.two_paths(tower, tokens, blocks, refined, attention)


def dino_alone(*arguments):
    first, (gathered, _) = value_paths.two_paths(*arguments)
    return first, [gathered]


PLUS_TURNED = {
    "softer weights": (dino_attention, "SHARPNESS", 1.0),
    "a lower bound": (dino_attention, "ABOVE_MEAN", 1.0),
    "nothing left out": (torch.Tensor, "masked_fill", lambda self, mask, value: self),
    "values of the refined path": (crane, "two_paths", beside_the_refined_path),
    "the refined path alone": (crane, "two_paths", refined_path_alone),
    "DINOv2 alone": (crane, "two_paths", dino_alone),
}


@pytest.mark.parametrize("turned", PLUS_TURNED)
def test_one_thing_turned_in_crane_plus_is_seen(turned, built, monkeypatch):
    monkeypatch.setattr(*PLUS_TURNED[turned])
    assert difference(built["crane_plus"]) > 3 * TOLERANCE


def with_mlp(tower, tokens, blocks, refined, attention=value_paths.value_attention):
    """The second path with MLPs, as CLIP's own has them."""
    first = second = tower.norm_pre(tokens)
    found = []
    for number, block in enumerate(tower.blocks):
        if number < len(tower.blocks) - refined:
            first = second = block(first)
        else:
            second = second + value_paths._attend(block.attn, block.norm1(first), attention)[1]
            second = second + block.mlp(block.norm2(second))
            first = block(first)
        if number + 1 in blocks:
            found.append(second)
    return first, found


@pytest.mark.parametrize("method", ["anomaly_clip"], indirect=True)
def test_a_second_path_with_mlps_is_seen(method, monkeypatch):
    monkeypatch.setattr(anomaly_clip, "two_paths", with_mlp)
    assert difference(method) > 3 * TOLERANCE


@pytest.mark.parametrize("method", ["anomaly_clip"], indirect=True)
def test_another_attention_of_the_second_path_is_seen(method, monkeypatch):
    keys = lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(k, k, v)  # noqa: E731
    monkeypatch.setattr(anomaly_clip, "two_paths", lambda *arguments: value_paths.two_paths(*arguments, attention=keys))
    assert difference(method) > 3 * TOLERANCE


SUMMED = crane.summed_attention


def averaged(queries, keys, values):
    return SUMMED(queries, keys, values) / 3


CRANE_TURNED = {
    "attention averaged": ("summed_attention", averaged),
    "attention of values": ("summed_attention", value_paths.value_attention),
    "more of the patches": ("POOLED_SHARE", 0.6),
}


@pytest.mark.parametrize("turned", CRANE_TURNED)
def test_one_thing_turned_in_crane_is_seen(turned, built, monkeypatch):
    name, value = CRANE_TURNED[turned]
    monkeypatch.setattr(crane, name, value)
    assert difference(built["crane"]) > 3 * TOLERANCE


@pytest.mark.parametrize("positions", ["antialiased", "offset"])
def test_positions_resized_otherwise_are_seen(positions, files, monkeypatch):
    monkeypatch.setattr(anomaly_clip.AnomalyClip, "positions", positions)
    assert difference(build(files, "anomaly_clip")) > 3 * TOLERANCE


def test_deep_tokens_that_are_not_rounded_are_seen(built):
    prompts, text = built["anomaly_clip"].prompts, built["anomaly_clip"].text
    rounded = prompts(text)
    exact = [each.detach() for each in prompts.deep]
    half, torch.Tensor.half = torch.Tensor.half, lambda self: self
    try:
        found = prompts(text)
    finally:
        torch.Tensor.half = half
    assert len(exact) == authors.DEEP_BLOCKS
    theirs = THEIRS["anomaly_clip/texts"]
    assert relative(rounded.detach(), theirs) <= TOLERANCE < 3 * TOLERANCE < relative(found.detach(), theirs)


def batch():
    images = torch.from_numpy(authors.draw_images(authors.LARGER))
    return images, torch.from_numpy(authors.draw_masks()), torch.tensor([0, 1])


@pytest.mark.parametrize("method", ["anomaly_clip"], indirect=True)
def test_prompts_are_learnt_as_the_authors_code_learns_them(method):
    optimizer = torch.optim.Adam(method.prompts.parameters(), lr=1e-3, betas=(0.5, 0.999))
    losses = []
    for _ in range(authors.STEPS):
        loss = method.loss(*batch())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert relative(losses, THEIRS["anomaly_clip/losses"]) <= TOLERANCE
    # Adam divides by the size of gradients: where they are near 0, the order of sums shows.
    assert relative(method.prompts(method.text).detach(), THEIRS["anomaly_clip/learnt_texts"]) <= 10 * TOLERANCE


def crane_batch():
    side = authors.PLUS_LARGER
    images = torch.from_numpy(authors.draw_images(side))
    return images, torch.from_numpy(authors.draw_masks(side)), torch.tensor([0, 1])


@pytest.mark.parametrize("alone", [True, False], ids=["crane", "crane_plus"])
@pytest.mark.parametrize("method", ["crane_plus"], indirect=True)
def test_prompts_are_shown_images_and_learnt_as_crane_s_code_does_it(method, alone):
    if alone:
        method.network.dino = None
        # There are as many equal maps as the authors' code is asked for.
        method.config = dataclasses.replace(method.config, map_weight=2.0 * len(authors.CRANE_LAYERS))
    theirs = "crane_plus/alone_" if alone else "crane_plus/"
    optimizer = torch.optim.Adam(method.prompts.parameters(), lr=1e-3, betas=method.betas)
    losses = []
    for _ in range(authors.STEPS):
        loss = method.loss(*crane_batch())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert relative(losses, THEIRS[f"{theirs}losses"]) <= TOLERANCE
    embedding, _ = method.network.embed(crane_batch()[0])
    texts = method.prompts.of_images(method.text, embedding).detach()
    # Adam divides by the size of gradients: where they are near 0, the order of sums shows.
    assert relative(texts, THEIRS[f"{theirs}learnt_texts"]) <= 10 * TOLERANCE


def unseen(prompts, text, images):
    return prompts(text).expand(len(images), -1, -1)


def others_seen(prompts, text, images):
    return OF_IMAGES(prompts, text, images.flip(0))


def bilinear(x, size):
    return torch.nn.functional.interpolate(x, size, mode="bilinear")


OF_IMAGES = anomaly_clip_prompts.Prompts.of_images
CRANE_LOSSES_TURNED = {
    "prompts that see no image": (anomaly_clip_prompts.Prompts, "of_images", unseen),
    "prompts that see another image": (anomaly_clip_prompts.Prompts, "of_images", others_seen),
    "weight of images": (crane, "IMAGE_WEIGHT", 1.0),
    "temperature of images": (crane, "IMAGE_TEMPERATURE", 0.07),
    "more of the patches": (crane, "POOLED_SHARE", 0.6),
    "focal loss of the good text's share": (crane, "focal_loss", lambda s, m: FOCAL(s.flip(1), m)),
    "Dice of the anomalous share alone": (crane, "dice_loss", lambda s, m: DICE(2 * s - 1, m)),
}
FOCAL, DICE = anomaly_clip_training.focal_loss, anomaly_clip_training.dice_loss


@pytest.mark.parametrize("turned", CRANE_LOSSES_TURNED)
def test_one_thing_turned_in_the_loss_of_crane_is_seen(turned, built, monkeypatch):
    monkeypatch.setattr(*CRANE_LOSSES_TURNED[turned])
    assert crane_loss_differs(built["crane_plus"])


def test_a_mean_cosine_of_each_image_is_seen_in_the_loss_of_crane(built, monkeypatch):
    embed = crane.CraneNetwork.embed
    monkeypatch.setattr(crane.CraneNetwork, "embed", lambda self, image, one_mean: embed(self, image))
    assert crane_loss_differs(built["crane_plus"])


def crane_loss_differs(method):
    with torch.no_grad():
        loss = method.loss(*crane_batch()).item()
    return abs(loss / THEIRS["crane_plus/losses"][0] - 1) > 3 * TOLERANCE


LOSSES_TURNED = {
    "focal gamma": (anomaly_clip_training, "_GAMMA", 1.0),
    "Dice without smoothing": (anomaly_clip_training, "_DICE_SMOOTHING", 0.0),
    "smoothed labels": (anomaly_clip_training, "_LABEL_SMOOTHING", 1e-2),
    "weight of the maps": (anomaly_clip, "MAP_WEIGHT", 1.0),
}


@pytest.mark.parametrize("turned", LOSSES_TURNED)
def test_one_thing_turned_in_the_loss_is_seen(turned, built, monkeypatch):
    monkeypatch.setattr(*LOSSES_TURNED[turned])
    with torch.no_grad():
        loss = built["anomaly_clip"].loss(*batch()).item()
    assert abs(loss / THEIRS["anomaly_clip/losses"][0] - 1) > 3 * TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("crane_plus", {"temperature": 0.01}),
        ("crane_plus", {"sigma_px": 2.0}),
        ("anomaly_clip", {"layers": ("block4",)}),
        ("anomaly_clip", {"temperature": 0.01}),
        ("anomaly_clip", {"sigma_px": 0.0}),
    ],
    ids=str,
)
def test_one_setting_turned_is_seen(name, setting, files):
    assert difference(build(files, name, **setting)) > 3 * TOLERANCE
