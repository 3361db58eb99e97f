"""Learners of defects: SeaS and AnoGen behind one interface, which learns numbered kinds and then makes defects.

Unlike the authors' boxes for AnoGen, edgead's have the sizes of the rejects' boxes, and lie in or close to these.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from edgead.dataset.folders import StageProgress, no_progress
from edgead.workstation.trainer.checkpoint import Checkpoint
from edgead_diffusion import anogen, seas
from edgead_diffusion.anogen_boxes import BoxRule, draw_box
from edgead_diffusion.examples import Examples
from edgead_diffusion.seas_masks import MaskPredictor
from edgead_diffusion.stable_diffusion import StableDiffusion

Plan = seas.SeasPlan | anogen.AnogenPlan
PLANS: dict[str, type[Plan]] = {"seas": seas.SeasPlan, "anogen": anogen.AnogenPlan}
_JITTER = 0.1  # share of a side that a box is moved by at most
_SAVE_EVERY_S = 600.0  # the state of SeaS takes some 10 GB

Pairs = list[tuple[np.ndarray, np.ndarray]]
"""Images, uint8 BGR (side, side, 3), and masks, uint8 (side, side)."""


@dataclass
class DefectLearner(ABC):
    """Base of learners, which learn kinds of defects, numbered from 0, and then make defects.

    `model`: model, which SeaS changes.
    `checkpoints`: folder for the states of interrupted trainings.
    `belongs_to`: see `edgead.workstation.trainer.checkpoint.Checkpoint`.
    `where` (ndarray of shape (h, w)): mask of the allowed places, not 0 inside.
    """

    model: StableDiffusion
    checkpoints: Path
    belongs_to: dict[str, object]
    where: np.ndarray | None = None
    progress: StageProgress = no_progress

    @abstractmethod
    def learn(self, examples: Examples) -> None:
        """Learn from square examples, or resume an interrupted training."""

    @abstractmethod
    def make(self, number: int, good: Sequence[np.ndarray], seed: int) -> Pairs:
        """Make a defect of a kind on each square good part; its mask may be empty."""

    def checkpoint(self, name: str) -> Checkpoint:
        """Make the checkpoint of a named training."""
        return Checkpoint(self.checkpoints / name, self.belongs_to, every_s=_SAVE_EVERY_S)

    def forget(self) -> None:
        """Remove all states of trainings."""
        for folder in self.checkpoints.glob("*/"):
            self.checkpoint(folder.name).remove()
        if self.checkpoints.is_dir() and not any(self.checkpoints.iterdir()):
            self.checkpoints.rmdir()


@dataclass
class SeasLearner(DefectLearner):
    """SeaS: one model of the product, and a predictor of masks."""

    plan: seas.SeasPlan = field(default_factory=seas.SeasPlan)
    predictor: MaskPredictor | None = None

    def learn(self, examples: Examples) -> None:
        kept = self.checkpoint("seas")
        seas.fine_tune(self.model, examples, self.plan, checkpoint=kept, progress=self.progress)
        self.predictor = seas.train_masks(self.model, examples, self.plan, checkpoint=kept, progress=self.progress)

    def make(self, number: int, good: Sequence[np.ndarray], seed: int) -> Pairs:
        assert self.predictor is not None, "learn comes first"
        return seas.make_defects(self.model, self.predictor, good, number, replace(self.plan, seed=seed))


@dataclass
class AnogenLearner(DefectLearner):
    """AnoGen: a word for each kind of defect, and boxes like those around the kind's rejects."""

    plan: anogen.AnogenPlan = field(default_factory=anogen.AnogenPlan)
    words: list[anogen.WordVector] = field(default_factory=list)
    boxes: list[tuple[np.ndarray, BoxRule]] = field(default_factory=list)

    def learn(self, examples: Examples) -> None:
        side = self.model.side
        for number in range(examples.number_of_types):
            of_kind = examples.of_type(number)
            kept, progress = self.checkpoint(f"word_{number}"), partial(_named, self.progress, number)
            self.words.append(anogen.learn_word(self.model, of_kind, self.plan, checkpoint=kept, progress=progress))
            place, rule = boxes_like(of_kind.masks, side)
            if self.where is not None:
                place = cv2.resize(self.where, (side, side), interpolation=cv2.INTER_NEAREST)
            self.boxes.append(((place > 0).astype(np.uint8) * 255, rule))

    def make(self, number: int, good: Sequence[np.ndarray], seed: int) -> Pairs:
        rng = np.random.default_rng(seed)
        boxes = [draw_box(*self.boxes[number], rng) for _ in good]
        images = anogen.make_defects(self.model, self.words[number], good, boxes, replace(self.plan, seed=seed))
        return list(zip(images, boxes, strict=True))


def boxes_like(masks: Sequence[np.ndarray], side: int) -> tuple[np.ndarray, BoxRule]:
    """Derive from one kind's masks where boxes may be, uint8 (side, side), slightly enlarged, and the boxes' sizes.

    `masks` (sequence of ndarray of shape (n, n), uint8): masks, each with a defect.
    """
    place = np.zeros((side, side), np.uint8)
    sizes = []
    for mask in masks:
        left, top, width, height = (value / len(mask) for value in cv2.boundingRect(mask))
        sizes.append((width, height))
        x, y = (max(0, round((edge - _JITTER) * side)) for edge in (left, top))
        right, bottom = (round((edge + _JITTER) * side) for edge in (left + width, top + height))
        place[y:bottom, x:right] = 255
    widths, heights = zip(*sizes, strict=True)
    return place, BoxRule((min(widths), max(widths)), (min(heights), max(heights)))


def _named(progress: StageProgress, number: int, stage: str, done: int, total: int) -> None:
    progress(f"{stage} {number + 1}", done, total)
