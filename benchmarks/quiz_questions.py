"""Questions on a test set with one true and three false options, made of what folders and masks say.

The form is VANE-Bench's (Bharadwaj et al., "VANE-Bench: video anomaly evaluation benchmark for conversational LMMs",
2024): a question and four lettered options. The options of the first question are AnomalyGPT's answers.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edgead.dataset.folders import DatasetError, LabelledImage
from edgead.images.boxes import PLACES, place_in
from edgead.images.files import load_image

LETTERS = "ABCD"
NO_ANOMALY = "No, there is no anomaly in the image."
_NO_DEFECT = "no defect at all"
QUESTIONS = {
    "anomaly": "Is there any anomaly in the image?",
    "kind": "Which kind of defect does the part in the image have?",
    "place": "Where in the image is the anomaly?",
}
WITHOUT_MASKS = "anomaly and place: no defective image has a mask that says where its defect is"
TOO_FEW_KINDS = "kind: the folder has fewer than 3 kinds of defects to choose from"


@dataclass(frozen=True, slots=True)
class Question:
    """One question on one image; `letter` is that of the true option."""

    image: LabelledImage
    about: str
    options: tuple[str, ...]
    letter: str

    @property
    def text(self) -> str:
        """The question with its options, as a language model reads it."""
        options = (f"{letter}) {option}" for letter, option in zip(LETTERS, self.options, strict=True))
        return " ".join([QUESTIONS[self.about], *options])

    @property
    def true(self) -> str:
        """The true option."""
        return self.options[LETTERS.index(self.letter)]


def make_questions(images: Sequence[LabelledImage], data: Path, seed: int) -> tuple[list[Question], list[str]]:
    """Make all questions that a test set has facts for.

    Parameters
    ----------
    images : sequence of LabelledImage
    data : Path
        The folder of the test set. False options, and the order of all four, are drawn by the seed and an image's path
        in it, so that another image more or less changes no other question.
    seed : int

    Returns
    -------
    questions : list of Question
        In the order of the images.
    left_out : list of str
        What could not be asked, and why.
    """
    kinds = sorted({_kind(image) for image in images if image.is_defective})
    masks = [image for image in images if image.is_defective and image.mask is not None]
    questions = []
    for image in images:
        for about, sure, others in _facts(image, kinds, has_masks=bool(masks)):
            draw = random.Random(f"{seed}/{image.path.relative_to(data).as_posix()}/{about}")
            true, options = sure[0], [*sure, *draw.sample(others, len(LETTERS) - len(sure))]
            draw.shuffle(options)
            questions.append(Question(image, about, tuple(options), LETTERS[options.index(true)]))
    left_out = [*([] if masks else [WITHOUT_MASKS]), *([TOO_FEW_KINDS] if len(kinds) < len(LETTERS) - 1 else [])]
    return questions, left_out


def drawn(questions: Sequence[Question], most: int | None, seed: int) -> list[Question]:
    """Draw at most so many of the questions, in their order.

    Raises
    ------
    DatasetError
        There is none.
    """
    if not questions:
        raise DatasetError(f"no question can be asked of this data set: {WITHOUT_MASKS}; {TOO_FEW_KINDS}")
    if most is None or most >= len(questions):
        return list(questions)
    chosen = sorted(random.Random(f"{seed}/questions").sample(range(len(questions)), most))
    return [questions[index] for index in chosen]


def _facts(image: LabelledImage, kinds: Sequence[str], *, has_masks: bool) -> list[tuple[str, list[str], list[str]]]:
    """What may be asked of an image: the question's name, its sure options, the true one first, and false ones to draw.

    "No" is among the options of every image, or its absence would give the answer away.
    """
    if not image.is_defective:
        # Without a mask anywhere, "no" would be right each time that this is asked.
        return [("anomaly", [NO_ANOMALY], [_yes(place) for place in PLACES])] if has_masks else []
    found = []
    if len(kinds) >= len(LETTERS) - 1:
        others = [kind for kind in kinds if kind != _kind(image)]
        found.append(("kind", [_kind(image)], [*others, *([_NO_DEFECT] if len(kinds) < len(LETTERS) else [])]))
    if image.mask is not None and (places := _places(image)):
        elsewhere = [place for place in PLACES if place not in places]
        if len(elsewhere) >= len(LETTERS) - 1:
            found.append(("place", [_at(places[0])], [_at(place) for place in elsewhere]))
            found.append(("anomaly", [_yes(places[0]), NO_ANOMALY], [_yes(place) for place in elsewhere]))
    return found


def _kind(image: LabelledImage) -> str:
    return image.defect.replace("_", " ")


def _at(place: str) -> str:
    return f"at the {place} of the image"


def _yes(place: str) -> str:
    return f"Yes, there is an anomaly in the image, {_at(place)}."


def _places(image: LabelledImage) -> list[str]:
    """Name the ninths that the regions of a mask lie in, the largest region first; none where the mask is empty."""
    mask = image.load_mask(load_image(image.path).shape[:2])
    assert mask is not None
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    regions = sorted(stats[1:count].tolist(), key=lambda region: -region[cv2.CC_STAT_AREA])
    return [place_in((x + width / 2, y + height / 2), mask.shape) for x, y, width, height, _ in regions]
