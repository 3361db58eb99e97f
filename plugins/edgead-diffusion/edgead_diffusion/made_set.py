"""Folders of defects made by SeaS or AnoGen, in the format of `edgead.synthetic.made_set`.

Unlike the papers: good parts and rejects are stretched to the square that a Stable Diffusion needs, and made images are
stretched back. AnoGen learns from all rejects of a kind; the paper uses three.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from edgead.artifact.training_hashes import content_sha256
from edgead.dataset.folders import StageProgress, no_progress
from edgead.dataset.made_sets import Learnt, MadeSet
from edgead.errors import SettingsError
from edgead.images.files import load_image
from edgead.synthetic.made_set import Made, Real, Recipe, Shapes, make_defects
from edgead.synthetic.rejects import RealDefect
from edgead_diffusion.anogen import AnogenPlan
from edgead_diffusion.examples import Examples
from edgead_diffusion.learners import AnogenLearner, DefectLearner, Plan, SeasLearner
from edgead_diffusion.stable_diffusion import StableDiffusion

GOOD_PARTS = 60
"""Largest number of good parts that SeaS learns from, as in the paper."""
BATCH = 4
"""Images that are sampled together."""
# A defect is made on one of these parts: the share of them nearest to its reject in size, and all that are as near.
_NEAREST_SHARE, _NEAREST = 0.2, 8


class Diffusion(NamedTuple):
    """Opened Stable Diffusion, its folder, and the plan of SeaS or AnoGen."""

    model: StableDiffusion
    weights: Path
    plan: Plan

    def learnt(self) -> Learnt:
        """Entry for the record `made.json`."""
        settings = {name: value for name, value in asdict(self.plan).items() if name != "seed"}
        return Learnt(weights=self.weights.resolve().name, settings=settings)


def make_by_diffusion(
    diffusion: Diffusion,
    good: Sequence[Path],
    rejects: Sequence[RealDefect],
    folder: Path,
    recipe: Recipe,
    *,
    progress: StageProgress = no_progress,
) -> MadeSet:
    """Learn from rejects, and write a folder of defects made on good parts.

    The learnt state is kept in `folder` with `.checkpoint` added until all is complete, so that the same call after an
    interruption resumes.

    `folder`: new or empty folder; it becomes complete or stays absent.
    `recipe`: recipe with the method (SeaS or AnoGen) of the plan.
    Raises DatasetError, SettingsError, FileExistsError: see `edgead.synthetic.made_set.make_defects`; or no defect was
        found on any made image.
    """
    model, _, plan = diffusion
    where = None if recipe.where is None else load_image(recipe.where)[:, :, 0]
    kept = folder.with_name(f"{folder.name}.checkpoint")
    given = model, kept, _belongs_to(diffusion, good, rejects), where, progress
    learner = AnogenLearner(*given, plan) if isinstance(plan, AnogenPlan) else SeasLearner(*given, plan)
    made = make_defects(
        good,
        rejects,
        folder,
        recipe,
        make=partial(_make_all, learner, recipe),
        learnt=diffusion.learnt(),
        progress=partial(progress, "make defects"),
    )
    learner.forget()
    return made


def _belongs_to(diffusion: Diffusion, good: Sequence[Path], rejects: Sequence[RealDefect]) -> dict[str, object]:
    files = diffusion.weights.resolve().glob("*/*.safetensors")
    return {
        "plan": asdict(diffusion.plan),
        "weights": sorted((str(file), file.stat().st_size) for file in files),
        "rejects": [(one.kind, one.label, content_sha256(one.path)) for one in rejects],
        "good": [str(path.resolve()) for path in good],
    }


def _make_all(learner: DefectLearner, recipe: Recipe, real: Real, shapes: Shapes) -> Iterator[Made]:
    """Learn all kinds, then yield made images, evenly by kind; images on which no defect was found are left out."""
    kinds = sorted({record.kind for _, record in real})
    learner.learn(_examples(real, kinds, list(shapes), recipe.seed))
    found = 0
    for number, kind in enumerate(kinds):
        rng = np.random.default_rng([recipe.seed, number])
        parts = _parts_like([reject for reject, record in real if record.kind == kind], shapes, rng)
        count = len(range(number, recipe.count, len(kinds)))
        for begin in range(0, count, BATCH):
            chosen = [next(parts) for _ in range(min(BATCH, count - begin))]
            good = [_squared(load_image(path)) for path in chosen]
            made = learner.make(number, good, int(rng.integers(2**31)))
            for path, (image, mask) in zip(chosen, made, strict=True):
                if mask.any():
                    found += 1
                    yield _fitted(image, mask, kind, path, shapes[path])
    if not found:
        raise SettingsError(
            f"{recipe.method} made {recipe.count} images and found a defect on none of them: let it learn longer "
            "(--steps), or lower its threshold (--set threshold=0.1)"
        )


def _parts_like(rejects: Sequence[RealDefect], shapes: Shapes, rng: np.random.Generator) -> Iterator[Path]:
    """Draw good parts endlessly, each with about the proportions of a reject."""
    images = [reject.load()[0] for reject in rejects]
    parts = [alike(shapes, image.shape[:2]) for image in images]
    while True:
        like = parts[int(rng.integers(len(parts)))]
        yield like[int(rng.integers(len(like)))]


def alike(shapes: Shapes, shape: tuple[int, ...]) -> list[Path]:
    """List the good parts whose sides have a ratio most like that of a reject's `shape`."""
    far = {path: float(np.abs(np.log(np.divide(of_part, shape))).sum()) for path, of_part in shapes.items()}
    least = min(len(far), max(_NEAREST, round(_NEAREST_SHARE * len(far))))
    limit = sorted(far.values())[least - 1]
    return [path for path, distance in far.items() if distance <= limit]


def _fitted(image: np.ndarray, mask: np.ndarray, kind: str, good: Path, shape: tuple[int, int]) -> Made:
    """Stretch a made image to the shape of the good part it was made on."""
    image = cv2.resize(image, shape[::-1], interpolation=cv2.INTER_LINEAR)
    return Made(image, cv2.resize(mask, shape[::-1], interpolation=cv2.INTER_NEAREST) > 0, kind, good)


def _examples(real: Real, kinds: Sequence[str], good: Sequence[Path], seed: int) -> Examples:
    defects, masks = [], []
    for reject, _ in real:
        image, mask = reject.load()
        assert mask is not None, "those without a mask are left out"
        defects.append(_squared(image))
        masks.append(_squared(mask.astype(np.uint8), cv2.INTER_NEAREST))
    chosen = np.random.default_rng(seed).permutation(len(good))[:GOOD_PARTS]
    types = [kinds.index(record.kind) for _, record in real]
    return Examples(defects, masks, types, [_squared(load_image(good[i])) for i in sorted(chosen)])


def _squared(image: np.ndarray, way: int = cv2.INTER_LINEAR) -> np.ndarray:
    """Stretch the shorter side to make an image square, so that nothing is cut off."""
    side = max(image.shape[:2])
    return cv2.resize(image, (side, side), interpolation=way)
