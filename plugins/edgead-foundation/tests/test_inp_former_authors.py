"""INP-Former equals the authors' code on the same random weights, and no longer when one thing in it is turned.

Both compute in float64, but for positions and the authors' Gaussian, which are float32: 1e-5 of the largest number.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")
pytest.importorskip("timm", reason="the backbone is timm's")

import inp_former_authors as authors  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from authors import authors_numbers  # noqa: E402
from torch import nn  # noqa: E402

from edgead.errors import SettingsError  # noqa: E402
from edgead_foundation.backbones.names import TOWERS  # noqa: E402
from edgead_foundation.backbones.towers import build_tower  # noqa: E402
from edgead_foundation.inp_former import detector as inp_former  # noqa: E402
from edgead_foundation.inp_former import losses, network, reconstruction, training  # noqa: E402
from edgead_foundation.inp_former.detector import InpFormer, InpFormerConfig  # noqa: E402
from edgead_foundation.inp_former.network import InpNetwork  # noqa: E402
from edgead_foundation.inp_former.reconstruction import (  # noqa: E402
    CrossAttention,
    DecoderBlock,
    PrototypeAttention,
    Reconstruction,
)
from edgead_foundation.inp_former.training import TrainingSchedule  # noqa: E402

THEIRS = authors_numbers("inp_former")
TOLERANCE = 1e-5
NAME = "dinov2_vitb14_reg"
SIZES = {"side": authors.TRAINED_SIDE, "width": authors.WIDTH, "depth": authors.DEPTH, "heads": authors.HEADS}
SMALL = replace(TOWERS[NAME], **SIZES)
HEAD = InpFormer.head.fget(SimpleNamespace(config=InpFormerConfig()))
PLAN = TrainingSchedule(authors.STEPS, 1, 1, 1e-3, authors.WARM_UP, 0)


@pytest.fixture(autouse=True)
def small_tower(monkeypatch):
    monkeypatch.setitem(TOWERS, NAME, SMALL)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """The tower in the authors' own form."""
    entries = [entry.split(" ") for entry in THEIRS["names"].tolist()]
    state = {
        name.removeprefix("encoder."): authors.draw(name, tuple(map(int, shape))).float()
        for name, *shape in entries
        if name.startswith("encoder.")
    }
    file = tmp_path_factory.mktemp("weights") / "dinov2_vitb14_reg4_pretrain.pth"
    torch.save(state, file)
    return file


their_name = reconstruction.authors_name


@pytest.fixture
def trained_file(tmp_path):
    """A whole trained model as the authors' scripts save it."""
    entries = [entry.split(" ") for entry in THEIRS["names"].tolist()]
    state = {name: authors.draw(name, tuple(map(int, shape))).float() for name, *shape in entries}
    torch.save(state, tmp_path / "model.pth")
    return tmp_path / "model.pth"


def encode(weights) -> list[torch.Tensor]:
    """What is to be made again, of pixels in float64."""
    method = InpFormer.from_settings(
        {"image_size": (authors.SIDE, authors.SIDE), "map_size": authors.SIDE}, weights=weights
    )
    net = method.network.double()
    pixels = torch.from_numpy(authors.draw_images()).double().permute(0, 3, 1, 2)
    with torch.no_grad():
        return net.group(net.backbone(pixels))


@pytest.fixture(scope="module")
def taught(weights):
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TOWERS, NAME, SMALL)
        return encode(weights)


def build() -> InpNetwork:
    """All that comes after the backbone."""
    inner = Reconstruction(authors.WIDTH, authors.HEADS).double()
    inner.load_state_dict(
        {name: authors.draw(their_name(name), tuple(x.shape)) for name, x in inner.state_dict().items()}
    )
    return InpNetwork(nn.Identity(), inner, (4, 4), (authors.SIDE,) * 2, authors.MAP_SIDE).double()


@torch.no_grad()
def judged(net: InpNetwork, taught: list[torch.Tensor]) -> dict[str, np.ndarray]:
    net.eval()
    tokens = reconstruction.mean_of(taught)
    made, prototypes = net.reconstruction(tokens)
    maps = net.enlarge(net.score(taught)).numpy()
    image_scores = [HEAD.reference({"patch_scores": x}, {}, (authors.SIDE,) * 2)[0] for x in maps]
    return {
        "made": torch.stack(made).numpy(),
        "coherence_loss": losses.coherence_loss(tokens, prototypes).numpy(),
        "maps": maps[:, :: authors.EVERY, :: authors.EVERY],
        "borders": maps[:, 0, :: authors.EVERY],
        "image_scores": np.array(image_scores),
    }


def train(net: InpNetwork, taught: list[torch.Tensor]) -> dict[str, np.ndarray]:
    """Five steps on given batches: their rates and losses, and the norm of each parameter's gradient."""
    inner = net.reconstruction.train()
    optimizer = training.StableAdamW(inner.parameters(), PLAN.learning_rate)
    norms, rates, lost, clip = [], [], [], nn.utils.clip_grad_norm_

    def look(parameters, largest):
        named = sorted((their_name(name), x) for name, x in inner.named_parameters())
        norms.append([float(x.grad.norm()) for _, x in named])
        return clip(parameters, largest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.utils, "clip_grad_norm_", look)
        for number, batch in enumerate(authors.BATCHES):
            rates.append(PLAN.learning_rate * PLAN.rate(number))
            optimizer.param_groups[0]["lr"] = rates[-1]
            lost.append(float(training.update(inner, optimizer, [x[list(batch)] for x in taught])))
    return {"norms": np.array(norms), "rates": np.array(rates), "losses": np.array(lost)}


def computed(taught: list[torch.Tensor]) -> dict[str, np.ndarray]:
    net = build()
    updated = authors.update(training.StableAdamW, {})
    found = {"taught": torch.stack(taught).numpy(), "updated": updated, **judged(net, taught), **train(net, taught)}
    return {**found, **{f"trained_{name}": x for name, x in judged(net, taught).items()}}


def differing(found: dict[str, np.ndarray]) -> set[str]:
    return {
        name
        for name, x in found.items()
        if x.shape != THEIRS[name].shape or np.abs(x - THEIRS[name]).max() > TOLERANCE * np.abs(THEIRS[name]).max()
    }


def test_the_authors_trained_model_is_taken_as_it_is(trained_file):
    settings = {"image_size": (authors.SIDE, authors.SIDE), "map_size": authors.SIDE, "epochs": 0}
    method = InpFormer.from_settings(settings, weights=trained_file)
    method.fit(list(authors.draw_images()))
    net = method.network.double()
    with torch.no_grad():
        tokens = net.group(net.backbone(torch.from_numpy(authors.draw_images()).double().permute(0, 3, 1, 2)))
    whole = InpNetwork(nn.Identity(), net.reconstruction, (4, 4), (authors.SIDE,) * 2, authors.MAP_SIDE).double()
    found = {"taught": torch.stack(tokens).numpy(), **judged(whole, tokens)}
    assert {"maps", "image_scores"} < found.keys() and not differing(found)


def test_a_trained_model_of_other_sizes_is_refused(trained_file):
    with pytest.raises(SettingsError, match=r"model.pth: decoder.4.attn.kv.bias has the shape .*, these settings want"):
        InpFormer.from_settings({"blocks": 4, "epochs": 0}, weights=trained_file)
    with pytest.raises(SettingsError, match=r"prototype_token has the shape \(6, 24\), these settings want \(5, 24\)"):
        InpFormer.from_settings({"prototypes": 5}, weights=trained_file)


def test_no_epoch_needs_a_trained_model(weights):
    with pytest.raises(SettingsError, match="epochs=0 learns nothing.*: give the authors' model.pth with --weights"):
        InpFormer.from_settings({"epochs": 0}, weights=weights)


def test_a_trained_model_with_python_objects_is_refused(tmp_path):
    torch.save({"model": nn.Linear(2, 2)}, tmp_path / "model.pth")
    with pytest.raises(SettingsError, match="holds Python objects, which edgead does not unpickle"):
        InpFormer.from_settings({"epochs": 0}, weights=tmp_path / "model.pth")


def test_it_gives_what_the_authors_code_gives(taught):
    found = computed(taught)
    assert found.keys() == THEIRS.keys() - {"names"}
    assert not differing(found)


def add_around_the_attention(self, tokens, prototypes):
    x = tokens + self.attn(self.norm1(tokens), self.norm1(prototypes))
    return x + self.mlp(self.norm2(x))


def prototypes_as_they_are(self, tokens, prototypes):
    x = self.attn(self.norm1(tokens), prototypes)
    return x + self.mlp(self.norm2(x))


def softmax_of_cosines(self, q, k, v):
    cosine = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
    return (cosine * self.learn_scale).softmax(dim=-1) @ v


def products_for_cosines(self, q, k, v):
    return F.relu(q @ k.transpose(-2, -1) * self.learn_scale) @ v


def scale_after_the_relu(self, q, k, v):
    cosine = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-2, -1)
    return (F.relu(cosine) * self.learn_scale) @ v


def unscaled_products(self, q, k, v):
    return F.scaled_dot_product_attention(q, k, v, scale=1.0)


def first_blocks_first(self, tokens, whole=None):
    prototypes = self.extractor(self.prototypes.expand(len(tokens), -1, -1), tokens)
    x, made = self.bottleneck(tokens), []
    for block in self.decoder:
        x = block(x, prototypes)
        made.append(x)
    return [reconstruction.mean_of(made[:4]), reconstruction.mean_of(made[4:])], prototypes


def weights_in_the_loss(taught, made):
    total = 0.0
    for target, x in zip(taught, made, strict=True):
        far = reconstruction.distances(target, x)
        factor = (far / far.mean()).detach() ** losses.HARDNESS
        total = total + (factor * far).mean()
    return total / len(made)


def hard_of_each_image(taught, made):
    total = made[0].new_zeros(())
    for target, x in zip(taught, made, strict=True):
        far = reconstruction.distances(target, x).detach()
        factor = ((far / far.mean(dim=1, keepdim=True)) ** losses.HARDNESS)[..., None]
        total = total + (1 - F.cosine_similarity(target.flatten(1), x.flatten(1))).mean()
        x.register_hook(lambda gradient, factor=factor: gradient * factor)
    return total / len(made)


def token_by_token(taught, made):
    return sum(reconstruction.distances(*pair).mean() for pair in zip(taught, made, strict=True)) / len(made)


def mean_prototype(tokens, prototypes):
    return (1 - F.cosine_similarity(tokens[:, :, None], prototypes[:, None], dim=-1)).mean()


class PlainAdamW(torch.optim.AdamW):
    def __init__(self, parameters, lr, weight_decay=1e-4):
        super().__init__(parameters, lr, eps=1e-10, weight_decay=weight_decay, amsgrad=True)


def by_centres(grid, pixels, map_size, enlarge=network.enlargement, interpolate=F.interpolate):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            network.F, "interpolate", lambda *a, align_corners, **k: interpolate(*a, align_corners=False, **k)
        )
        return enlarge(grid, pixels, map_size)


def square_alone(largest, square, out):
    return out.copy_(square)


MADE = {"made", "maps", "image_scores", "losses"}
TRAPS = {
    "a residual around the decoder's attention": ((DecoderBlock, "forward", add_around_the_attention), MADE),
    "prototypes that are not normalised": ((DecoderBlock, "forward", prototypes_as_they_are), MADE),
    "a softmax in the decoder": ((PrototypeAttention, "attend", softmax_of_cosines), MADE),
    "products in the decoder": ((PrototypeAttention, "attend", products_for_cosines), MADE),
    "the scale after the ReLU": ((PrototypeAttention, "attend", scale_after_the_relu), MADE),
    "the extractor's scale": ((CrossAttention, "attend", unscaled_products), {"coherence_loss", *MADE}),
    "the first blocks first": ((reconstruction.Reconstruction, "forward", first_blocks_first), MADE),
    "weights in the loss": ((training, "soft_mining_loss", weights_in_the_loss), {"losses", "norms"}),
    "hard tokens of each image": ((training, "soft_mining_loss", hard_of_each_image), {"norms", "trained_made"}),
    "a loss token by token": ((training, "soft_mining_loss", token_by_token), {"losses", "norms"}),
    "the mean over the prototypes": ((losses, "coherence_loss", mean_prototype), {"coherence_loss"}),
    "the mean of prototypes learns": ((training, "coherence_loss", mean_prototype), {"losses", "norms"}),
    "less hardness": ((losses.soft_mining_loss, "__defaults__", (2.0,)), {"norms", "trained_made"}),
    "less coherence": ((training, "COHERENCE_WEIGHT", 0.1), {"losses", "norms"}),
    "AdamW": ((training, "StableAdamW", PlainAdamW), {"trained_made", "updated"}),
    "no clipping of the gradient": ((training, "LARGEST_GRADIENT", 1e9), {"trained_made"}),
    "a lower last rate": ((training, "LAST_RATE", 0.01), {"rates", "trained_made"}),
    "a Gaussian that is whole": ((network, "KERNEL", 33), {"maps", "borders", "image_scores"}),
    "maps by centres": ((network, "enlargement", by_centres), {"maps", "borders", "image_scores"}),
    "another eps": ((reconstruction, "EPS", 1e-2), MADE),
    "no largest square": ((torch, "maximum", square_alone), {"updated"}),
    "updates that are not clipped": (
        (torch.Tensor, "clamp_min", lambda x, least: torch.ones_like(x)),
        {"trained_made"},
    ),
}


@pytest.mark.slow  # all of them together
@pytest.mark.parametrize("trap", TRAPS)
def test_what_would_differ_is_seen(trap, taught, monkeypatch):
    target, seen = TRAPS[trap]
    monkeypatch.setattr(*target)
    assert seen <= differing(computed(taught))


def test_positions_as_dinov2_brings_them_to_another_grid_are_seen(weights, monkeypatch):
    monkeypatch.setattr(inp_former, "build_tower", lambda *a, positions, **k: build_tower(*a, **k))
    assert differing({"taught": torch.stack(encode(weights)).numpy()})
