"""Settings of SeaS and AnoGen are the authors': each constant beside the file and line that has it."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="training needs the workstation's packages")

from edgead_diffusion.anogen import AnogenPlan  # noqa: E402
from edgead_diffusion.seas import SeasPlan  # noqa: E402

COMMITS = {"seas": "HUST-SLOW/SeaS 4645d3b", "anogen": "gaobb/AnoGen 048a0de"}
SEAS, ANOGEN = SeasPlan(), AnogenPlan()
FINETUNE = "DIFFUSION/configs/latent-diffusion/txt2img-1p4B-finetune.yaml"
CONSTANTS = {
    "seas": [
        ("steps", SEAS.steps, 800, "scripts/train_generation.sh:20"),
        ("batch", SEAS.batch_size, 2, "configs/seas.yaml:8"),
        ("accumulation", SEAS.accumulation, 2, "configs/seas.yaml:22"),
        ("rates", (SEAS.unet_rate, SEAS.words_rate, SEAS.mask_rate), (4e-6, 4e-5, 5e-4), "configs/seas.yaml:17"),
        ("weight decay", SEAS.weight_decay, 0.01, "configs/seas.yaml:25"),
        ("turned", SEAS.turn, True, "configs/seas.yaml:5"),
        ("noise", SEAS.noise_steps, 1500, "configs/seas.yaml:38"),
        ("sampling", SEAS.sampling_steps, 25, "configs/seas.yaml:41"),
        ("guidance", SEAS.guidance, 8, "configs/seas.yaml:42"),
        ("threshold", SEAS.threshold, 0.2, "configs/seas.yaml:44"),
    ],
    "anogen": [
        ("steps", ANOGEN.steps, 6100, f"{FINETUNE}:119"),
        ("batch", ANOGEN.batch_size, 4, f"{FINETUNE}:87"),
        ("rate", ANOGEN.rate, 5e-3 * 4, f"{FINETUNE}:2, for each of a batch"),
        ("sampling", ANOGEN.sampling_steps, 50, "DIFFUSION/generate.sh:29"),
        ("guidance", ANOGEN.guidance, 10, "DIFFUSION/generate.sh:28"),
    ],
}


@pytest.mark.parametrize(
    ("method", "name", "ours", "theirs", "place"),
    [(method, *row) for method, rows in CONSTANTS.items() for row in rows],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_constant_is_the_authors(method, name, ours, theirs, place):
    assert ours == pytest.approx(theirs), f"{name}: {COMMITS[method]}, {place}"
