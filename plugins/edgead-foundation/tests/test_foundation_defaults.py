"""Presets that carry a paper's name have the authors' numbers: each constant beside the file and line that has it.

Lines are those of the commits in `COMMITS`. What a preset has otherwise is named in `OURS`, so that no setting is
left out by mistake. What is drawn at random is compared by its distribution, or from the same random numbers.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from published import Constants, Published, check_docs, check_preset
from torch import nn
from torchvision import transforms
from torchvision.transforms import functional as F

from edgead.unlabelled.screening import mutual
from edgead_foundation import musc
from edgead_foundation.anomaly_clip.detector import AnomalyClip
from edgead_foundation.anomaly_ncd import encoder, heads, losses, regions, training, views
from edgead_foundation.anomaly_ncd.encoder import MaskGuidedVit
from edgead_foundation.anomaly_ncd.heads import KindHeads
from edgead_foundation.anomaly_ncd.views import Views
from edgead_foundation.backbones.vit import VisionTransformer, VitShape
from edgead_foundation.crane.detector import IMAGE_WEIGHT, Crane
from edgead_foundation.filo import training as filo
from edgead_foundation.inp_former import losses as inp_losses
from edgead_foundation.inp_former import network as inp_network
from edgead_foundation.inp_former import reconstruction, stable_adamw
from edgead_foundation.inp_former import training as inp_training
from edgead_foundation.inp_former.reconstruction import Reconstruction

COMMITS = {
    "inp_former": "luow23/INP-Former 17d2653",
    "anomaly_clip": "zqhang/AnomalyCLIP 45ed4dd",
    "crane": "AlirezaSalehy/Crane 39181f9",
    "filo": "CASIA-IVA-Lab/FiLo 36ff29c",
    "metauas": "gaobb/MetaUAS feda9cb",
    "musc": "xrli-U/MuSc b76b93d",
    "anomaly_ncd": "HUST-SLOW/AnomalyNCD cbecce7",
}


def blocks(*numbers: int) -> tuple[str, ...]:
    """Layers by the authors' numbers, which count from 1 here."""
    return tuple(f"block{number}" for number in numbers)


MULTI = "INP_Former_Multi_Class.py"
INP = {
    "backbone": ("dinov2_vitb14_reg", f"{MULTI}:217"),
    "layers": (blocks(*(1 + number for number in (2, 3, 4, 5, 6, 7, 8, 9))), f"{MULTI}:68, from 0"),
    "image_size": ((448, 448), f"{MULTI}:218, before the crop of line 219"),
    "prototypes": (6, f"{MULTI}:220"),
    "blocks": (8, f"{MULTI}:106"),
    "epochs": (200, f"{MULTI}:223"),
    "batch_images": (16, f"{MULTI}:224"),
    "learning_rate": (1e-3, f"{MULTI}:131"),
    "warm_up": (100, f"{MULTI}:132"),
    "map_size": (256, f"{MULTI}:158"),
    "top_share": (0.01, f"{MULTI}:158"),
}
INP_LARGE = tuple(1 + number for number in (4, 6, 8, 10, 12, 14, 16, 18))
ANOMALY_CLIP = {
    "backbone": ("clip_vitl14_336", "train.py:32"),
    "layers": (blocks(24), "train.sh:16"),
    "image_size": ((518, 518), "train.sh:16"),
    "refined_blocks": (20 - 1, "train.py:42; by line 71, 1 is none"),
    "context": (12, "train.sh:7"),
    "deep_context": (4, "train.sh:8"),
    "deep_blocks": (9 - 1, "train.sh:6; one less by prompt_ensemble.py:160"),
    "epochs": (15, "train.sh:17"),
    "batch_size": (8, "train.sh:16"),
    "learning_rate": (0.001, "train.py:131"),
    "temperature": (0.07, "train.py:83"),
    "sigma_px": (4, "test.py:192"),
}
CRANE = {
    "backbone": ("clip_vitl14_336", "train.py:54"),
    "layers": (blocks(24), "train.py:194"),
    "image_size": ((518, 518), "train.py:193"),
    "refined_blocks": (20 - 1, "train.py:56; counted as AnomalyCLIP does"),
    "context": (12, "train.py:198"),
    "deep_context": (4, "train.py:199"),
    "deep_blocks": (9 - 1, "train.py:197; one less by models/prompt_ensemble.py:76"),
    "epochs": (5, "train.py:184"),
    "batch_size": (8, "train.py:186"),
    "learning_rate": (0.001, "train.py:185"),
    "temperature": (0.07, "train.py:122"),
    "sigma_px": (4, "test.py:246"),
}
FILO = {
    "backbone": ("clip_vitl14_336", "train.py:60"),
    "layers": (blocks(6, 12, 18, 24), "train.py:72"),
    "image_size": ((518, 518), "train.py:82"),
    "context": (12, "train.py:100"),
    "epochs": (15, "train.py:99"),
    "adapter_epochs": (5, "train.py:101"),
    "learning_rate": (1e-3, "train.py:91"),
    "decoder_learning_rate": (1e-4, "train.py:94"),
    "adapter_learning_rate": (1e-5, "train.py:97"),
}
PUBLISHED: Published = {
    ("inp_former", "default"): INP,
    ("inp_former", "small"): {**INP, "backbone": ("dinov2_vits14_reg", f"{MULTI}:74")},
    ("inp_former", "large"): {
        **INP,
        "backbone": ("dinov2_vitl14_reg", f"{MULTI}:78"),
        "layers": (blocks(*INP_LARGE), f"{MULTI}:80, from 0"),
    },
    ("inp_former", "trained"): {**INP, "epochs": (0, f"{MULTI}:176, the phase of the test")},
    ("anomaly_clip", "default"): ANOMALY_CLIP,
    ("anomaly_clip", "layers"): {**ANOMALY_CLIP, "layers": (blocks(6, 12, 18, 24), "train.py:128")},
    ("crane", "default"): CRANE,
    ("crane", "plus"): {**CRANE, "dino": ("dinov2_vitb14_reg", "models/Crane.py:463")},
    ("filo", "default"): FILO,
    ("metauas", "default"): {"image_size": ((256, 256), "demo_metauas.py:32")},
    ("metauas", "fine"): {"image_size": ((512, 512), "demo_metauas.py:34")},
}
OURS = {
    "inp_former": {"seed"},
    "anomaly_clip": {"prompts", "auxiliary", "seed"},
    # Of the maps, whose number differs from preset to preset, and of how they are brought together: the fixtures.
    "crane": {"prompts", "auxiliary", "seed", "dino", "dino_weights", "mean_of", "map_weight"},
    "filo": {"part", "details", "descriptions", "place", "prompts", "auxiliary", "seed"},
    "metauas": {"sigma_px", "seed"},
}


def defaults(function: Any) -> dict[str, Any]:
    return {name: one.default for name, one in inspect.signature(function).parameters.items()}


NCD = "configs/AnomalyNCD.yaml"
PLAN = training.Plan(2)
OPTIMISER = defaults(stable_adamw.StableAdamW)
CONSTANTS: Constants = {
    "inp_former": [
        ("eps of layer norms", reconstruction.EPS, 1e-8, f"{MULTI}:101"),
        ("channels of MLPs", reconstruction.MLP_RATIO, 4, f"{MULTI}:100"),
        ("clipped gradient", inp_training.LARGEST_GRADIENT, 0.1, f"{MULTI}:146"),
        ("last rate", inp_training.LAST_RATE, 1e-4 / 1e-3, f"{MULTI}:131"),
        ("y of the loss", inp_losses.HARDNESS, 3, f"{MULTI}:142"),
        ("weight of coherence", inp_losses.COHERENCE_WEIGHT, 0.2, f"{MULTI}:143"),
        ("Gaussian", (inp_network.KERNEL, inp_network.SIGMA), (5, 4), "utils.py:230"),
        ("betas", OPTIMISER["betas"], (0.9, 0.999), f"{MULTI}:130"),
        ("weight decay", OPTIMISER["weight_decay"], 1e-4, f"{MULTI}:130"),
        ("eps of the optimiser", OPTIMISER["eps"], 1e-10, f"{MULTI}:130"),
    ],
    "anomaly_clip": [("betas", AnomalyClip.betas, (0.5, 0.999), "train.py:44")],
    "crane": [
        ("betas", Crane.betas, (0.6, 0.999), "train.py:68"),
        ("weight of images", IMAGE_WEIGHT, 0.2, "train.py:154"),
    ],
    "filo": [
        ("betas", filo.BETAS, (0.5, 0.999), "train.py:169"),
        ("temperature", filo.IMAGE_TEMPERATURE, 0.07, "train.py:232"),
    ],
    "musc": [
        ("pixels", musc.SIDE, 518, "configs/musc.yaml:5"),
        ("blocks", musc.compared_blocks(24), tuple(1 + n for n in (5, 11, 17, 23)), "configs/musc.yaml:11, from 0"),
        ("neighbourhoods", musc.REACHES, (1, 3, 5), "configs/musc.yaml:12"),
        ("interval", mutual.MutualRule().interval, 0.3, "models/musc.py:211"),
        ("alike images", mutual.ALIKE, (1, 2, 3), "models/musc.py:245"),
    ],
    "anomaly_ncd": [
        ("grey levels of a step", regions.STEP, 4, f"{NCD}:3"),
        ("shortest run", regions.SHORTEST, 4, f"{NCD}:4"),
        ("trained blocks", defaults(MaskGuidedVit)["trained"], 12 - 11, f"{NCD}:7"),
        ("masked blocks", defaults(MaskGuidedVit)["masked"], 9, f"{NCD}:9"),
        ("classifiers", (PLAN.heads, defaults(KindHeads)["heads"]), (4, 4), f"{NCD}:11"),
        ("batch", PLAN.batch_size, 32, f"{NCD}:13"),
        ("rate", PLAN.learning_rate, 0.003, f"{NCD}:15"),
        ("last rate", training.LAST_RATE, 1e-3, "models/AnomalyNCD.py:594"),
        ("momentum", PLAN.momentum, 0.9, f"{NCD}:17"),
        ("weight decay", PLAN.weight_decay, 5e-5, f"{NCD}:18"),
        ("epochs", PLAN.epochs, 50, f"{NCD}:19"),
        ("supervised share", PLAN.supervised, 0.3, f"{NCD}:21"),
        ("even use", PLAN.even_use, 4, f"{NCD}:22"),
        ("normal below", PLAN.normal_below, 0.5, f"{NCD}:23"),
        ("last temperature", losses.teacher_temperature(49, 50), 0.04, f"{NCD}:24"),
        ("first temperature", losses.teacher_temperature(0, 50), 0.07, f"{NCD}:25"),
        ("warm-up", defaults(losses.teacher_temperature)["warm_up"], 40, f"{NCD}:26"),
        ("epochs of a temperature", defaults(losses.teacher_temperature)["repeats"], 4, f"{NCD}:27"),
        ("student's temperature", losses.STUDENT_TEMPERATURE, 0.1, "models/AnomalyNCD.py:605"),
        ("contrast's temperature", losses.CONTRAST_TEMPERATURE, 0.07, "models/loss/_contrastive_loss.py:12"),
        ("seed", PLAN.seed, 3407, f"{NCD}:29"),
        ("area's temperature", PLAN.area_temperature, 100, "models/AnomalyNCD.py:212"),
        ("projection", (heads.HIDDEN, heads.CONTRAST), (2048, 256), "models/modules/_classifier.py:12"),
        (
            "mean and deviation",
            encoder.MEAN + encoder.STD,
            (0.485, 0.456, 0.406, 0.229, 0.224, 0.225),
            "datasets/transform.py:134",
        ),
        ("share of a view", views.CROPPED, 0.875, "models/AnomalyNCD.py:65"),
    ],
}


def test_the_docs_name_the_published_presets():
    check_docs(PUBLISHED, [method for method, _ in PUBLISHED])


@pytest.mark.parametrize(("method", "preset"), PUBLISHED, ids="-".join)
def test_a_preset_has_the_authors_numbers(method, preset):
    check_preset(method, preset, PUBLISHED[method, preset], OURS[method], COMMITS[method])


@pytest.mark.parametrize(
    ("method", "name", "ours", "theirs", "place"),
    [(method, *row) for method, rows in CONSTANTS.items() for row in rows],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_constant_is_the_authors(method, name, ours, theirs, place):
    assert ours == pytest.approx(theirs), f"{name}: {COMMITS[method]}, {place}"


@torch.no_grad()
def test_a_reconstruction_begins_as_the_authors_do():
    """`INP_Former_Multi_Class.py:122`: normal numbers of deviation 0.01, cut at three of them, and no bias."""
    torch.manual_seed(0)
    network = Reconstruction(192, 3, blocks=2)
    network.draw()
    # The density and share of a normal number within three deviations.
    edge, inside = math.exp(-4.5) / math.sqrt(2 * math.pi), math.erf(3 / math.sqrt(2))
    deviation = 0.01 * math.sqrt(1 - 2 * 3 * edge / inside)
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    assert len(layers) == 3 + 2 + 2 + 2 * 5
    for layer in layers:
        assert float(layer.weight.std()) == pytest.approx(deviation, rel=0.02)
        assert 0.029 < float(layer.weight.abs().max()) <= 0.03
        assert not layer.bias.any()
    assert float(network.prototypes.std()) == pytest.approx(1, rel=0.1)
    norms = [layer for layer in network.modules() if isinstance(layer, nn.LayerNorm)]
    assert norms and all((norm.weight == 1).all() and not norm.bias.any() for norm in norms)
    assert all((block.attn.learn_scale == 1).all() for block in network.decoder)


@torch.no_grad()
def test_heads_begin_as_the_authors_do():
    """`models/modules/_classifier.py:42` of AnomalyNCD, and torch's own beginning for the classifiers of line 32."""
    torch.manual_seed(0)
    found = KindHeads(768, 10)
    assert [tuple(x.weight.shape) for x in found.projection if isinstance(x, nn.Linear)] == [
        (2048, 768),
        (2048, 2048),
        (256, 2048),
    ]
    for layer in found.projection:
        if isinstance(layer, nn.Linear):
            assert float(layer.weight.std()) == pytest.approx(0.02, rel=0.02) and not layer.bias.any()
    of_torch = nn.Linear(768, 10, bias=False).weight
    for prototypes in found.prototypes:
        assert float(prototypes.std()) == pytest.approx(float(of_torch.std()), rel=0.05)
        assert float(prototypes.abs().max()) <= 768**-0.5


def test_the_paper_masks_nine_of_twelve_blocks():
    encoder = MaskGuidedVit(VisionTransformer(VitShape(image_size=32, patch_size=8, width=24, depth=12, heads=3)))
    image, seen = torch.rand(1, 3, 32, 32), []
    for block in encoder.vit.blocks:
        block.register_forward_pre_hook(lambda _, given: seen.append(given[1] is not None))
    encoder(image, torch.ones(1, 1, 32, 32))
    assert seen == [False] * 3 + [True] * 9
    learns = [any(p.requires_grad for p in block.parameters()) for block in encoder.vit.blocks]
    assert learns == [False] * 11 + [True]


def photograph() -> tuple[Image.Image, Image.Image]:
    """A coloured crop and its mask, of the size that views are cut from."""
    rng = np.random.default_rng(0)
    image = np.kron(rng.integers(0, 256, (32, 32, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    mask = np.zeros((256, 256), np.uint8)
    mask[40:150, 90:200] = 255
    return Image.fromarray(image), Image.fromarray(mask)


def authors_view(image: Image.Image, mask: Image.Image) -> tuple[torch.Tensor, torch.Tensor, list[object]]:
    """What lines 58 to 120 of `datasets/transform.py` do, in their order, from numbers drawn in ours."""
    below = lambda end: int(torch.randint(end, ()))  # noqa: E731
    margin = int(224 / 0.875) - 224
    top, left = (int(float(torch.rand(())) * margin) for _ in range(2))
    mirrored, upside_down = (float(torch.rand(())) < 0.5 for _ in range(2))
    turned = below(4)
    image, mask = (F.crop(x, top, left, 224, 224) for x in (image, mask))
    if mirrored:
        image, mask = F.hflip(image), F.hflip(mask)
    if upside_down:
        image, mask = F.vflip(image), F.vflip(mask)
    image = transforms.ColorJitter(brightness=(0.6, 1.4), contrast=(0.6, 1.4), saturation=(0.6, 1.8))(image)
    if turned:
        image, mask = (F.rotate(x, (90, 180, 270)[turned - 1]) for x in (image, mask))
    image = F.adjust_sharpness(image, 0.2 + float(torch.rand(())) * 1.8)
    kernel = [9, 13, 17, 21, 25, 29, 33][below(7)]
    image = transforms.GaussianBlur(kernel_size=kernel)(image)
    bits = [5, 6, 7, 8][below(4)]
    image = F.posterize(image, bits)
    whole = F.normalize(F.to_tensor(image), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    return whole, F.to_tensor(mask), [mirrored, upside_down, turned, kernel, bits]


def test_views_are_the_authors_pixel_by_pixel():
    given, seen = photograph(), []
    for seed in range(40):
        torch.manual_seed(seed)
        image, mask, drawn = authors_view(*given)
        torch.manual_seed(seed)
        found, marked = Views(224).trained(*given)
        assert torch.equal(found, image) and torch.equal(marked, mask), (seed, drawn)
        seen.append(drawn)
    assert [len({str(row[i]) for row in seen}) for i in range(5)] == [2, 2, 4, 7, 4], "seeds that see every branch"


def test_the_judged_view_is_the_middle():
    """Line 24 of `datasets/transform.py`: the margin is halved."""
    image, mask = photograph()
    found, marked = Views(224).judged(image, mask)
    expected = F.normalize(F.to_tensor(image.crop((16, 16, 240, 240))), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert torch.equal(found, expected) and torch.equal(marked, F.to_tensor(mask.crop((16, 16, 240, 240))))
