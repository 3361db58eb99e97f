"""MetaUAS equals the authors' code on the same random weights, and no longer when one thing in it is turned.

Both compute in float64, so what is left is the order of sums: 1e-9. With the encoder, where the scale of pixels is a
constant in float32, it is 1e-5.
"""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")
pytest.importorskip("timm", reason="the encoder is timm's")

import torch.nn.functional as F  # noqa: E402
from authors import authors_numbers  # noqa: E402
from metauas_authors import CHANNEL_STEP, DECODER, SIZE, STEP, draw, levels, queries_and_prompt  # noqa: E402
from metauas_authors import LEVELS as CHANNELS  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from edgead.heads.map import MapScorer  # noqa: E402
from edgead_foundation.metauas import networks as metauas_networks  # noqa: E402
from edgead_foundation.metauas.detector import MetaUas  # noqa: E402
from edgead_foundation.metauas.files import authors_name, is_weight  # noqa: E402
from edgead_foundation.metauas.networks import LEVELS as STAGES  # noqa: E402
from edgead_foundation.metauas.networks import Gate, Segmenter, SoftAlignment  # noqa: E402

THEIRS = authors_numbers("metauas")


class Image:
    """An image for a network that computes in float64."""

    def __init__(self, pixels: np.ndarray):
        self._pixels = torch.from_numpy(pixels)

    def float(self) -> Tensor:
        return self._pixels.double()


@pytest.fixture
def segmenter() -> Segmenter:
    """What follows the encoder, with few channels."""
    segmenter = Segmenter(dict(zip(STAGES, CHANNELS, strict=True)), DECODER)
    fill(segmenter, "segmenter.")
    return segmenter.eval()


@pytest.fixture(scope="module")
def method() -> MetaUas:
    """The whole network."""
    method = MetaUas.from_settings({"image_size": SIZE}, pretrained=False)
    fill(method.network)
    return method


def fill(network: nn.Module, prefix: str = "") -> None:
    """Give a network the weights that the authors' code was run with, float64."""
    given = network.double().state_dict()
    names = {name: authors_name(prefix + name) for name in given if is_weight(prefix + name)}
    drawn = {ours: draw(theirs, tuple(given[ours].shape)) for ours, theirs in names.items()}
    network.load_state_dict({**given, **drawn})


def small_map(segmenter: Segmenter) -> np.ndarray:
    query, prompt = (
        dict(zip(STAGES, map(torch.from_numpy, levels(name)), strict=True)) for name in ("query", "prompt")
    )
    with torch.inference_mode():
        return segmenter(query, prompt)[:, ::STEP, ::STEP].numpy()


def whole(method: MetaUas) -> dict[str, np.ndarray]:
    network, aligned = method.network, {}
    hooks = [
        align.register_forward_hook(lambda module, inputs, output, name=name: aligned.update({name: output}))
        for name, align in network.segmenter.alignments.items()
    ]
    queries, prompt = map(Image, queries_and_prompt())
    with torch.inference_mode():
        network.set_prompt(prompt)
        probabilities = network(queries).numpy()
    for hook in hooks:
        hook.remove()
    scorer = MapScorer(method.head, SIZE, SIZE)
    results = {name.replace("stride", "aligned"): x[:, ::CHANNEL_STEP].numpy() for name, x in aligned.items()}
    scores = [scorer.image_score(np.ascontiguousarray(each, np.float32)) for each in probabilities]
    return {**results, "map": probabilities[:, ::STEP, ::STEP], "scores": np.array(scores)}


def differing(found: dict[str, np.ndarray], tolerance: float = 1e-5) -> set[str]:
    return {name for name, x in found.items() if not np.allclose(x, THEIRS[name], rtol=tolerance, atol=tolerance)}


def test_what_follows_the_encoder_equals_the_authors_code(segmenter):
    np.testing.assert_allclose(small_map(segmenter), THEIRS["small_map"], rtol=1e-9)


@pytest.mark.slow
def test_the_whole_equals_the_authors_code(method):
    found = whole(method)
    assert len(found) == 5 and not differing(found)
    names = [authors_name(name) for name in method.network.state_dict() if is_weight(name)]
    assert sorted(names) == THEIRS["names"].tolist()


def own_keys(segmenter, monkeypatch):
    """Another convolution for the prompt than for the query."""

    def forward(self, query, prompt):
        likeness = self.reduce(query).flatten(2).transpose(1, 2) @ (-self.reduce(prompt)).flatten(2)
        return joined(query, prompt, likeness.softmax(dim=2))

    monkeypatch.setattr(SoftAlignment, "forward", forward)


def joined(query: Tensor, prompt: Tensor, weights: Tensor) -> Tensor:
    return torch.cat([query, (prompt.flatten(2) @ weights.transpose(1, 2)).view_as(query)], dim=1)


def likeness_of(align: SoftAlignment, query: Tensor, prompt: Tensor) -> Tensor:
    return align.reduce(query).flatten(2).transpose(1, 2) @ align.reduce(prompt).flatten(2)


def scaled(segmenter, monkeypatch):
    def forward(self, query, prompt):
        scale = self.reduce.out_channels**-0.5
        return joined(query, prompt, (scale * likeness_of(self, query, prompt)).softmax(dim=2))

    monkeypatch.setattr(SoftAlignment, "forward", forward)


def over_the_query(segmenter, monkeypatch):
    def forward(self, query, prompt):
        return joined(query, prompt, likeness_of(self, query, prompt).softmax(dim=1))

    monkeypatch.setattr(SoftAlignment, "forward", forward)


def hard(segmenter, monkeypatch):
    def forward(self, query, prompt):
        likeness = likeness_of(self, query, prompt)
        return joined(query, prompt, (likeness == likeness.amax(dim=2, keepdim=True)).double())

    monkeypatch.setattr(SoftAlignment, "forward", forward)


def reduced_values(segmenter, monkeypatch):
    def forward(self, query, prompt):
        weights = likeness_of(self, query, prompt).softmax(dim=2)
        return joined(query, self.reduce(prompt).repeat(1, 2, 1, 1), weights)

    monkeypatch.setattr(SoftAlignment, "forward", forward)


def prompt_first(segmenter, monkeypatch):
    forward = SoftAlignment.forward
    monkeypatch.setattr(
        SoftAlignment, "forward", lambda self, query, prompt: forward(self, query, prompt).roll(query.shape[1], dims=1)
    )


def other_statistics(segmenter, monkeypatch):
    forward = nn.BatchNorm2d.forward
    monkeypatch.setattr(nn.BatchNorm2d, "forward", lambda self, x: forward(self, x - x.mean(dim=(2, 3), keepdim=True)))


def smooth_enlarging(segmenter, monkeypatch):
    enlarge = F.interpolate
    monkeypatch.setattr(
        metauas_networks.F, "interpolate", lambda x, scale_factor, mode: enlarge(x, scale_factor=2.0, mode="bilinear")
    )


def gates_by_maximum(segmenter, monkeypatch):
    monkeypatch.setattr(Gate, "forward", lambda self, x: torch.maximum(x * self.channels(x), x * self.places(x)))


def no_gates_after(segmenter, monkeypatch):
    for block in segmenter.decoder.blocks:
        monkeypatch.setattr(block, "gate_outputs", nn.Identity())


def leaky(segmenter, monkeypatch):
    for block in segmenter.decoder.blocks:
        for convolution in (block.first, block.second):
            monkeypatch.setitem(convolution._modules, "2", nn.LeakyReLU(0.1))


def no_sigmoid(segmenter, monkeypatch):
    monkeypatch.setattr(Tensor, "sigmoid", lambda x: x)


def the_other_way_round(segmenter, monkeypatch):
    monkeypatch.setattr(Tensor, "sigmoid", lambda x: torch.special.expit(-x))


def skip_first(segmenter, monkeypatch):
    """A block's inputs before its skip, instead of after it."""
    for block, inputs in zip(segmenter.decoder.blocks, (2 * CHANNELS[-1], *DECODER), strict=False):
        weight = block.first[0].weight
        block.first[0].weight.data = torch.cat([weight[:, inputs:], weight[:, :inputs]], dim=1)


@pytest.mark.parametrize(
    "turn",
    [
        own_keys,
        scaled,
        over_the_query,
        hard,
        reduced_values,
        prompt_first,
        other_statistics,
        smooth_enlarging,
        gates_by_maximum,
        no_gates_after,
        leaky,
        no_sigmoid,
        the_other_way_round,
        skip_first,
    ],
)
def test_what_is_turned_after_the_encoder_differs(segmenter, monkeypatch, turn):
    turn(segmenter, monkeypatch)
    assert not np.allclose(small_map(segmenter), THEIRS["small_map"], rtol=1e-3, atol=1e-3)


def centred_padding(encoder, monkeypatch):
    """As torchvision pads, instead of as TensorFlow does."""
    same = {type(module) for module in encoder.modules() if type(module).__name__ == "Conv2dSame"}.pop()

    def forward(self, x):
        padding = tuple(side // 2 for side in self.kernel_size)
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    monkeypatch.setattr(same, "forward", forward)


def other_pixels(encoder, monkeypatch):
    """One deviation for all channels, twice as large."""
    monkeypatch.setitem(encoder._buffers, "std", torch.full_like(encoder.std, 115.0))


def other_epsilon(encoder, monkeypatch):
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            monkeypatch.setattr(module, "eps", 1e-2)


def level_before_its_last_block(encoder, monkeypatch):
    for name in ("stride8", "stride16", "stride32"):
        blocks = encoder.stages[name]
        monkeypatch.setitem(blocks._modules, str(len(blocks) - 1), nn.Identity())


@pytest.mark.slow
@pytest.mark.parametrize("turn", [centred_padding, other_pixels, other_epsilon, level_before_its_last_block])
def test_another_encoder_differs(method, monkeypatch, turn):
    turn(method.network.encoder, monkeypatch)
    assert differing(whole(method), tolerance=1e-3) >= {"aligned32", "aligned16", "aligned8", "map"}


@pytest.mark.slow
def test_a_mean_is_no_image_score(method, monkeypatch):
    monkeypatch.setattr(MetaUas, "head", method.head.model_copy(update={"top_patches": 100}))
    assert differing(whole(method)) == {"scores"}
