"""Constants of LSFA and MC4AD beside the file and line of their authors that has them, and what is ours instead.

Lines are those of the commits in `COMMITS`. Formulas are held by `test_lsfa_authors.py` and `test_mc4ad_authors.py`,
whose makers do not run the authors' scripts of training: their numbers are here.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the workstation's packages")

from published import Constants, check_preset  # noqa: E402

from edgead.adapt.methods.patchcore import PatchCoreConfig  # noqa: E402
from edgead_height.lsfa import adaptor, detector  # noqa: E402
from edgead_height.lsfa import losses as of_lsfa  # noqa: E402
from edgead_height.lsfa.detector import LsfaConfig  # noqa: E402
from edgead_height.mc4ad import losses as of_mc4ad  # noqa: E402
from edgead_height.mc4ad import network, pushes  # noqa: E402
from edgead_height.mc4ad.detector import Mc4adConfig  # noqa: E402

COMMITS = {"lsfa": "yuanpengtu/LSFA a8dd6d7", "mc4ad": "hzzzzzhappy/MC4AD 27cf768, code.zip"}
PRETRAIN, PREPROCESS = "Adaptation/fusion_pretrain.py", "datasets/AnomalyShapeNet/dataset_preprocess.py"
CONSTANTS: Constants = {
    "lsfa": [
        ("bounds of a squared distance", (of_lsfa._LEAST, of_lsfa._MOST), (1e-12, 50), f"{PRETRAIN}:42"),
        ("projection", adaptor.PROJECTED, 512, f"{PRETRAIN}:76"),
        ("temperature", of_lsfa.TEMPERATURE, 1, f"{PRETRAIN}:81"),
        ("share of turned patches", of_lsfa.TURNED_SHARE, 6, f"{PRETRAIN}:136"),
        ("weight of turned patches", of_lsfa.TURNED_WEIGHT, 0.05, f"{PRETRAIN}:137"),
        ("weight of whole parts' distance", of_lsfa.COMPACT_GLOBAL_WEIGHT, 0.4, f"{PRETRAIN}:174"),
        ("weight of compactness", of_lsfa.COMPACT_WEIGHT, 0.9, f"{PRETRAIN}:182"),
        ("weight of whole parts", of_lsfa.GLOBAL_WEIGHT, 0.1, f"{PRETRAIN}:186"),
        ("bank of whole parts", detector._WHOLE_PARTS, 100, f"{PRETRAIN}:203"),
        ("betas", detector._BETAS, (0.9, 0.95), f"{PRETRAIN}:396"),
        ("width of the perceptron", adaptor._RATIO, 4, "Adaptation/models/models.py:183"),
        ("side of a turned square", detector.BLOCK, 4, "Adaptation/data/mvtec3d.py:362"),
    ],
    "mc4ad": [
        ("patches", pushes.PARTS, 64, "config/config_train.py:23"),
        ("patches that may move", pushes.MOVED, 64 // 2, f"{PREPROCESS}:139"),
        ("features", network.FEATURES, 32, "config/config_train.py:36"),
        ("hidden", network.HIDDEN, 16, "network/MC4AD.py:16"),
        ("forces", 2 * network.SIDES, 6, "network/MC4AD.py:19"),
        ("least sum of lengths", of_mc4ad._LEAST_SUM, 1e-6, "network/MC4AD.py:71"),
        ("least length", of_mc4ad._LEAST_LENGTH, 1e-8, "network/MC4AD.py:75"),
        ("weight of symmetry", of_mc4ad.SYMMETRY_WEIGHT, 0.1, "network/MC4AD.py:92"),
    ],
}
PUBLISHED = {
    "lsfa": {"image_size": ((224, 224), f"{PRETRAIN}:252"), "learning_rate": (3e-4, "README.md:48")},
    "mc4ad": {},
}
OTHERWISE: dict[str, dict[str, tuple[Any, Any, str]]] = {
    "lsfa": {
        "bank_patches": (4000, 60_000, f"{PRETRAIN}:92"),
        "batch_images": (2, 8 * 16, "README.md:48, accumulated"),
        "heads": (4, 12, f"{PRETRAIN}:74"),
        "steps": (200, "two epochs of ten products", f"{PRETRAIN}:403"),
    },
    "mc4ad": {
        "batch_images": (4, 32, "config/config_train.py:21"),
        "learning_rate": (2e-3, 1e-3, "config/config_train.py:26"),
        "least_mm": (0.03, "0.06 of the largest radius", f"{PREPROCESS}:145"),
        "most_mm": (1.5, "0.12 of the largest radius", f"{PREPROCESS}:145"),
        "smooth_share": (0.5, 0, f"{PREPROCESS}:72, tilted patches alone"),
        "steps": (1500, "1,500 epochs of 100 rounds", "config/config_train.py:10"),
    },
}
"""Settings that are ours for what the authors have too: our value, theirs, and the line that has it."""
OF_PATCHCORE = {field.name for field in fields(PatchCoreConfig)} - {"image_size"}
OURS = {"lsfa": OF_PATCHCORE, "mc4ad": {"image_size", "widths", "window", "sigma_px", "seed"}}
CONFIGS = {"lsfa": LsfaConfig, "mc4ad": Mc4adConfig}


@pytest.mark.parametrize(
    ("method", "name", "ours", "theirs", "place"),
    [(method, *row) for method, rows in CONSTANTS.items() for row in rows],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_constant_is_the_authors(method, name, ours, theirs, place):
    assert ours == pytest.approx(theirs), f"{name}: {COMMITS[method]}, {place}"


@pytest.mark.parametrize("method", COMMITS)
def test_a_default_is_the_authors_or_is_said_to_be_ours(method):
    config = CONFIGS[method]()
    assert {name: getattr(config, name) for name in OTHERWISE[method]} == {
        name: value for name, (value, *_) in OTHERWISE[method].items()
    }
    check_preset(method, "default", PUBLISHED[method], OURS[method] | OTHERWISE[method].keys(), COMMITS[method])


def test_pushes_are_drawn_from_the_authors_ranges(monkeypatch):
    """`dataset_preprocess.py:78` and 79: what is taken off far points, and the share of the normals."""
    drawn = []
    made = pushes.displacements

    def noted(*arguments, **settings):
        drawn.append((settings["attenuation"], settings["blend"], settings["sign"], np.linalg.norm(settings["axis"])))
        return made(*arguments, **settings)

    monkeypatch.setattr(pushes, "displacements", noted)
    rng = np.random.default_rng(0)
    for _ in range(200):
        pushes.drawn_push((16, 16), 1.0, rng)
    attenuation, blend, sign, length = np.transpose(drawn)
    assert 0 <= attenuation.min() < 0.01 and 0.07 < attenuation.max() <= 0.08
    assert 0.95 <= blend.min() < 0.955 and 0.995 < blend.max() <= 1
    assert 60 < (sign == 1).sum() < 140 and set(sign) == {-1, 1}
    np.testing.assert_allclose(length, 1)
