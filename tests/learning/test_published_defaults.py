"""Presets that carry a paper's name have the authors' numbers: each constant beside the file and line that has it.

Lines are those of the commits in `COMMITS`. What a preset has otherwise is named in `OURS`, so that no setting is
left out by mistake.
"""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="training needs the workstation's packages")

from published import Constants, Published, check_docs, check_preset  # noqa: E402

from edgead.adapt.methods import METHODS  # noqa: E402
from edgead.workstation.methods.draem import anomalies, perlin  # noqa: E402
from edgead.workstation.methods.draem import networks as draem_networks  # noqa: E402
from edgead.workstation.methods.efficient_ad import detector as efficient_ad  # noqa: E402
from edgead.workstation.methods.efficient_ad.student_teacher import PENALTY_GREY_RATE, QUANTILES  # noqa: E402

COMMITS = {
    "efficient_ad": "nelson1425/EfficientAD fcab514",
    "simplenet": "DonaldRR/SimpleNet 351a2b8",
    "draem": "VitjanZ/DRAEM 2dbf673",
}

EFFICIENT_AD = {
    "model_size": ("small", "efficientad.py:25"),
    "image_size": ((256, 256), "efficientad.py:46"),
    "padding": (False, "common.py:64"),
    "steps": (70_000, "efficientad.py:39"),
    "learning_rate": (1e-4, "efficientad.py:163"),
    "weight_decay": (1e-5, "efficientad.py:163"),
    "hard_quantile": (0.999, "efficientad.py:179"),
    "validation_share": (1 - 0.9, "efficientad.py:97"),
}
SIMPLENET = {
    "backbone": ("wide_resnet50_2", "run.sh:13"),
    "layers": (("layer2", "layer3"), "run.sh:14"),
    "image_size": ((329, 329), "run.sh:29, before the crop of line 30"),
    "features": ("unfolded", "run.sh:18"),
    "embedding": (1536, "run.sh:16"),
    "hidden": (1024, "run.sh:23"),
    "noise_std": (0.015, "run.sh:22"),
    "noise_spread": (1.0, "main.py:149, noise of one loudness"),
    "margin": (0.5, "run.sh:25"),
    "epochs": (40 * 4, "run.sh:19 and 21"),
    "batch_images": (8, "run.sh:28"),
    "adaptor_lr": (1e-3 * 0.1, "simplenet.py:129 and 185"),
    "discriminator_lr": (2e-4, "main.py:143"),
    "weight_decay": (1e-5, "simplenet.py:196"),
    "sigma_px": (4.0, "common.py:80"),
}
DRAEM = {
    "image_size": ((256, 256), "train_DRAEM.py:53"),
    "epochs": (700, "README.md:33"),
    "batch_size": (8, "README.md:33"),
    "learning_rate": (1e-4, "README.md:33"),
    "window": (21, "test_DRAEM.py:105"),
}
PUBLISHED: Published = {
    ("efficient_ad", "paper"): EFFICIENT_AD,
    ("efficient_ad", "paper_medium"): {**EFFICIENT_AD, "model_size": ("medium", "efficientad.py:140")},
    ("simplenet", "paper"): SIMPLENET,
    ("draem", "default"): DRAEM,
}
OURS = {
    "efficient_ad": {"penalty_images", "bfloat16", "seed"},
    # What chooses an epoch without the test set, what bounds the memory, and what `features` leaves unused.
    "simplenet": {
        *("fill", "damp_length", "whiten", "averaging", "held_out", "look_every", "patience", "steps"),
        *("batch_patches", "max_patches", "window", "top_patches", "rings", "seed"),
    },
    "draem": {
        *("width", "anomaly_source", "defects", "p_cutoff", "match_grey", "steps", "sigma_px", "bfloat16", "seed"),
    },
}
CONSTANTS: Constants = {
    "efficient_ad": [
        ("falling rate", efficient_ad.DECAY_AFTER, 0.95, "efficientad.py:165"),
        ("quantiles", QUANTILES, (0.9, 0.995), "efficientad.py:335"),
        ("grey photographs", PENALTY_GREY_RATE, 0.3, "efficientad.py:122"),
    ],
    "draem": [
        ("reconstructive width", draem_networks.RECONSTRUCTIVE_WIDTH, 128, "model_unet.py:6"),
        ("discriminative width", draem_networks.DISCRIMINATIVE_WIDTH, 64, "model_unet.py:17"),
        ("anomalous images", anomalies.ANOMALOUS_SHARE, 0.5, "data_loader.py:132"),
        ("turned images", anomalies.ROTATED_SHARE, 1 - 0.7, "data_loader.py:148"),
        ("threshold of noise", perlin.THRESHOLD, 0.5, "data_loader.py:120"),
        ("largest scale of noise", perlin.LARGEST_EXPONENT, 6 - 1, "data_loader.py:109, not included"),
        ("turned noise", perlin.ROTATION_DEG, 90, "data_loader.py:92"),
    ],
}


def test_the_docs_name_the_published_presets():
    check_docs(PUBLISHED, METHODS.own)


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
