"""AnomalyNCD equals the authors' code on the same random weights, and no longer when one thing in it is turned.

Both compute in float64, so what is left is the order of sums: 1e-9, and 1e-7 after a training. Scores of crops go
through Pillow's float32: 1e-5.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the workstation's packages")

import anomaly_ncd_authors as authors  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from authors import authors_numbers  # noqa: E402
from timm.models.vision_transformer import Attention  # noqa: E402
from torch import nn  # noqa: E402

from edgead_foundation.anomaly_ncd import crops, losses, merging, regions  # noqa: E402
from edgead_foundation.anomaly_ncd.encoder import MaskGuidedVit  # noqa: E402
from edgead_foundation.anomaly_ncd.heads import KindHeads  # noqa: E402
from edgead_foundation.anomaly_ncd.training import Plan, train  # noqa: E402
from edgead_foundation.backbones.vit import VisionTransformer, VitShape  # noqa: E402

THEIRS = authors_numbers("anomaly_ncd")
SHAPE = VitShape(authors.SIDE, authors.PATCH, authors.WIDTH, authors.DEPTH, authors.HEADS)
PLAN = Plan(authors.KINDS, epochs=authors.EPOCHS, batch_size=authors.BATCH)
EXACT_STABLE, EXACT_CUT = regions._stable, crops.cut_crops
EXACT_CROSS, EXACT_PSEUDO = losses.cross_view_entropy, losses.pseudo_labels


def encoder() -> MaskGuidedVit:
    found = MaskGuidedVit(VisionTransformer(SHAPE).double(), masked=authors.MASKED)
    found.vit.load_state_dict(authors.filled(found.vit.state_dict()))
    return found


def heads() -> KindHeads:
    found = KindHeads(authors.WIDTH, authors.BASE + authors.KINDS, 4, authors.HIDDEN, authors.CONTRAST).double()
    theirs = authors.filled({authors_name(name): value for name, value in found.state_dict().items()})
    found.load_state_dict({name: theirs[authors_name(name)] for name in found.state_dict()})
    return found


def authors_name(name: str) -> str:
    """projection.0.weight -> mlp.0.weight, prototypes.1 -> last_layer.1.weight_v"""
    part, rest = name.split(".", 1)
    return {"projection": f"mlp.{rest}", "prototypes": f"last_layer.{rest}.weight_v"}[part]


def found_regions() -> dict[str, np.ndarray]:
    maps = authors.make_maps()
    limits = regions.search_range(maps)
    found = [regions.main_elements(x, limits) for x in maps]
    given = [*found, *((mask, 1) for mask in authors.make_masks())]
    cut = [
        crops.cut_crops(image, mask, count, x, limits)
        for image, (mask, count), x in zip(2 * authors.make_photographs(), given, 2 * maps, strict=True)
    ]
    return {
        "masks": np.packbits(np.array([mask for mask, _ in found]) > 0),
        "counts": np.array([count for _, count in found]),
        "crops": np.array([authors.summary((crop.image, crop.mask, crop.score)) for group in cut for crop in group]),
        "crops_of": np.array([len(group) for group in cut]),
    }


@torch.inference_mode()
def found_networks() -> dict[str, np.ndarray]:
    features = encoder()(*authors.make_images("check", 4))
    projections, logits = heads()(features)
    normality = torch.tensor([0.1, 0.3, 0.1, 0.3], dtype=torch.float64)
    temperatures = np.array([losses.teacher_temperature(epoch, 50) for epoch in range(50)])
    labels = [losses.pseudo_labels(logits[0], authors.BASE, temperatures[i], normality) for i in (0, 5, 39, 49)]
    found = {
        "features": features,
        "projections": projections,
        "logits": logits,
        "info_nce": losses.info_nce(projections),
        "supervised_contrast": losses.supervised_contrast(projections, torch.tensor([0, 1])),
        "cluster": torch.stack([losses.cross_view_entropy(logits[0], x) for x in labels]),
        "merged": found_merging(logits),
    }
    return {**{name: np.asarray(value) for name, value in found.items()}, "temperatures": temperatures}


def found_merging(logits: torch.Tensor) -> torch.Tensor:
    """Two crops of one image and one of another, of every head; the authors' code keeps base classes, as zeros."""
    areas = torch.tensor([4000, 100, 50])
    of_heads = [merging.kind_probabilities(x[:3], authors.BASE) for x in logits]
    images = [[merging.merge_regions(p[i], areas[i], 100.0) for p in of_heads] for i in (slice(2), slice(2, 3))]
    merged = torch.stack([torch.stack(group) for group in images])
    return F.pad(merged, (authors.BASE, 0))


@dataclass
class Material:
    """The crops of the authors' run, in its order."""

    labels = torch.tensor(authors.LABELS)
    normality = torch.tensor(authors.SCORES, dtype=torch.float64).neg().add(0.5).clamp_min(0)
    epoch = -1

    def __len__(self) -> int:
        return authors.CROPS

    def order(self, seed: int, epoch: int) -> np.ndarray:
        self.epoch = epoch
        return np.arange(authors.CROPS)

    def two_views(self, chosen: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        return authors.two_views(self.epoch, chosen[0] // authors.BATCH)


def found_training(plan: Plan = PLAN) -> dict[str, np.ndarray]:
    network, classifiers = encoder(), heads()
    train(network, classifiers, Material(), plan)
    return judged(network, classifiers)


@torch.inference_mode()
def judged(network: MaskGuidedVit, classifiers: KindHeads) -> dict[str, np.ndarray]:
    projections, logits = classifiers(network(*authors.make_images("check", 4)))
    return {"trained_projections": projections.numpy(), "trained_logits": logits.numpy()}


def differing(found: dict[str, np.ndarray], tolerance: float = 0.0) -> set[str]:
    tolerances = {"crops": 1e-5, "trained_projections": 1e-7, "trained_logits": 1e-7}
    return {
        name
        for name, value in found.items()
        if value.shape != THEIRS[name].shape
        or not np.allclose(value, THEIRS[name], *[max(tolerance, tolerances.get(name, 1e-9))] * 2)
    }


def test_regions_and_crops_equal_the_authors_code():
    assert not differing(found_regions())
    # One map of each kind is among them: two regions, some that are joined, none that is stable.
    assert {0, 1, 2}.issubset(THEIRS["counts"]) and len(THEIRS["crops"]) > len(THEIRS["counts"])


def test_networks_and_losses_equal_the_authors_code():
    found = found_networks()
    assert len(found) == 8 and not differing(found)


def test_learns_as_the_authors_code_does():
    network, classifiers = encoder(), heads()
    assert train(network, classifiers, Material(), PLAN) == THEIRS["lost"].argmin()
    assert not differing(judged(network, classifiers))
    moved = np.abs(THEIRS["trained_logits"] - THEIRS["logits"]).max()
    assert moved > 1e-3


def stable_at_its_beginning(counts, found_in):
    return EXACT_STABLE(counts[::-1], found_in)


def cut_as_many_as_believed(image, mask, count, *others):
    return EXACT_CUT(image, mask, count - 1, *others)


@pytest.mark.parametrize(
    ("module", "name", "value", "differs"),
    [
        (regions, "STEP", 8, "masks"),
        (regions, "SHORTEST", 40, "counts"),
        (regions, "EROSION", np.ones((3, 3), np.uint8), "masks"),
        (regions, "_stable", stable_at_its_beginning, "masks"),
        (regions.SearchRange, "stretch", lambda self, x: x.astype(float), "masks"),
        (crops, "PADDING", 0.3, "crops"),
        (crops, "SMALLEST", 0.2, "crops"),
        (crops, "NEAR", 0.0, "crops"),
        (crops, "join_boxes", lambda boxes, side: boxes, "crops"),
        (crops, "cut_crops", cut_as_many_as_believed, "crops_of"),
    ],
    ids=["step", "shortest", "erosion", "beginning", "range", "padding", "smallest", "near", "no joining", "no more"],
)
def test_other_regions_differ(monkeypatch, module, name, value, differs):
    monkeypatch.setattr(module, name, value)
    assert differs in differing(found_regions(), tolerance=1e-4)


def mask_every_block(monkeypatch):
    init = MaskGuidedVit.__init__
    monkeypatch.setattr(MaskGuidedVit, "__init__", lambda self, x, masked: init(self, x, authors.DEPTH))


def mask_all_queries(monkeypatch):
    forward = Attention.forward
    every = lambda self, x, attn_mask, **more: forward(self, x, None if attn_mask is None else attn_mask[:, :, :1])  # noqa: E731
    monkeypatch.setattr(Attention, "forward", every)


def mask_nothing(monkeypatch):
    forward = Attention.forward
    monkeypatch.setattr(Attention, "forward", lambda self, x, **masks: forward(self, x))


def see_any_share(monkeypatch):
    monkeypatch.setattr(F, "avg_pool2d", lambda mask, size: F.max_pool2d(mask, size))


def other_epsilon(monkeypatch):
    init = MaskGuidedVit.__init__

    def with_epsilon(self, x, masked):
        init(self, x, masked)
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                module.eps = 1e-4

    monkeypatch.setattr(MaskGuidedVit, "__init__", with_epsilon)


def approximate_gelu(monkeypatch):
    gelu = F.gelu
    monkeypatch.setattr(F, "gelu", lambda x, **options: gelu(x, approximate="tanh"))


def average_tokens(monkeypatch):
    kind = type(VisionTransformer(SHAPE).norm)
    norm = kind.forward
    monkeypatch.setattr(kind, "forward", lambda self, x: norm(self, x).roll(1, dims=1))


@pytest.mark.parametrize(
    "turn",
    [
        mask_every_block,
        mask_all_queries,
        mask_nothing,
        see_any_share,
        other_epsilon,
        approximate_gelu,
        average_tokens,
    ],
)
def test_a_turned_encoder_differs(monkeypatch, turn):
    turn(monkeypatch)
    assert differing(found_networks(), tolerance=1e-6) >= {"features", "projections", "logits"}


def no_cosine(monkeypatch):
    monkeypatch.setattr(F, "normalize", lambda x, dim: x)


def same_view(monkeypatch):
    monkeypatch.setattr(losses, "cross_view_entropy", lambda a, b: EXACT_CROSS(a, b.roll(len(b) // 2, 0)))


def keep_base_classes(monkeypatch):
    monkeypatch.setattr(losses, "pseudo_labels", lambda a, base, t, n: EXACT_PSEUDO(a, 0, t, n))


def forget_normality(monkeypatch):
    monkeypatch.setattr(losses, "pseudo_labels", lambda a, base, t, n: EXACT_PSEUDO(a, base, t, 0 * n))


def one_temperature(monkeypatch):
    monkeypatch.setattr(losses, "teacher_temperature", lambda epoch, epochs: 0.04)


def other_student(monkeypatch):
    monkeypatch.setattr(losses, "STUDENT_TEMPERATURE", 0.07)


@pytest.mark.parametrize(
    ("turn", "differs"),
    [
        (no_cosine, {"logits", "info_nce", "supervised_contrast", "cluster"}),
        (same_view, {"cluster"}),
        (keep_base_classes, {"cluster"}),
        (forget_normality, {"cluster"}),
        (one_temperature, {"cluster", "temperatures"}),
        (other_student, {"cluster"}),
    ],
)
def test_a_turned_loss_differs(monkeypatch, turn, differs):
    turn(monkeypatch)
    assert differing(found_networks(), tolerance=1e-5) >= differs


@pytest.mark.parametrize(
    ("name", "value", "differs"),
    [
        ("CONTRAST_TEMPERATURE", 1.0, {"supervised_contrast"}),
        ("info_nce", losses.supervised_contrast, None),
        ("_without_self", lambda directions: directions @ directions.T, {"info_nce", "supervised_contrast"}),
    ],
)
def test_a_turned_contrast_differs(monkeypatch, name, value, differs):
    if name == "info_nce":
        labels = torch.arange(2)
        monkeypatch.setattr(losses, name, lambda x: value(x, labels))
        differs = {"info_nce"}
    else:
        monkeypatch.setattr(losses, name, value)
    assert differing(found_networks(), tolerance=1e-5) == differs


@pytest.mark.parametrize(
    "merge",
    [
        lambda p, areas, temperature: p.mean(dim=0),
        lambda p, areas, temperature: torch.softmax(areas / temperature, dim=0).to(p.dtype) @ p,
        lambda p, areas, temperature: p[areas.argmax()],
    ],
    ids=["mean", "no root", "largest"],
)
def test_another_merging_differs(monkeypatch, merge):
    monkeypatch.setattr(merging, "merge_regions", merge)
    assert differing(found_networks(), tolerance=1e-6) == {"merged"}


@pytest.mark.parametrize(
    "settings",
    [
        {"momentum": 0.8},
        {"weight_decay": 5e-3},
        {"supervised": 0.35},
        {"even_use": 2.0},
        {"learning_rate": 2e-3},
    ],
    ids=str,
)
def test_another_plan_learns_otherwise(settings):
    assert differing(found_training(replace(PLAN, **settings)), 1e-6) == {"trained_projections", "trained_logits"}


@pytest.mark.parametrize("turn", [no_cosine, forget_normality, one_temperature])
def test_a_turned_training_learns_otherwise(monkeypatch, turn):
    turn(monkeypatch)
    assert differing(found_training(), tolerance=1e-6) == {"trained_projections", "trained_logits"}
