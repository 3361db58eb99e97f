"""Boxes around regions that match words for anomalies, found by a Grounding DINO, as used by FiLo's authors.

Only for the workstation, as it is a second network with its own text tower, which devices lack. The choice of boxes,
their place and the treatment of pixels outside follow the authors' code (`tests/test_filo_boxes.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgead.errors import SettingsError
from edgead.process.installation import install_command
from edgead_foundation.filo.network import FiloNetwork
from edgead_foundation.filo.words import PLACES

GENERAL = ("anomaly", "damage", "broken", "defect", "contamination")
"""General words to search for beside the details of a part."""
THRESHOLD, LARGEST = 0.25, 0.7
"""Least match of a valid box with a word, and its largest area, as a share of the image's."""
OUTSIDE = 0.7
"""Factor of the map outside of all boxes."""
_SIDE, _LONGEST = 518, 1333
_THIRDS = ((0, 172), (173, 344), (345, 517))


@dataclass(frozen=True)
class Located:
    """Boxes found in an image, and the place of the best box.

    `boxes` (Tensor of shape (k, 4), float32): left, top, right and bottom of the boxes that name an anomaly, in shares
        of the image.
    `place`: entry of `PLACES` where the centre of the best box lies; "center" without a box, "all" between two places.
    `phrases`: phrase by which each box was found.
    """

    boxes: Tensor
    place: str
    phrases: tuple[str, ...]

    def inside(self, size: tuple[int, int]) -> Tensor:
        """Mask of the pixels of a map (h, w) inside any box, bool."""
        found, (height, width) = torch.zeros(size, dtype=torch.bool), size
        for left, top, right, bottom in self.boxes.tolist():
            found[int(top * height) : int(bottom * height), int(left * width) : int(right * width)] = True
        return found


def choose_boxes(
    shares: Tensor, boxes: Tensor, phrase_of: Callable[[Tensor], str], words: Sequence[str], *, threshold: float
) -> Located:
    """Choose boxes that name an anomaly, and the place of the best.

    `shares` (Tensor of shape (q, t)): match of each box with each token.
    `boxes` (Tensor of shape (q, 4)): centre, width and height in shares of the image.
    `phrase_of`: numbers of tokens, int64 (k,) -> text.
    `words`: words of which a phrase must contain one.
    `threshold`: least share of a token.
    """
    best = shares.amax(dim=1)
    kept = ((best > threshold) & (boxes[:, 2] * boxes[:, 3] < LARGEST)).nonzero()[:, 0]
    kept = kept if len(kept) else best.argmax()[None]
    tokens = shares[kept] > threshold
    tokens[:, 0] = False  # the token that begins the text
    tokens[:, 255:] = False
    phrases = [phrase_of(each.nonzero()[:, 0]) for each in tokens]
    # The authors' code keeps two digits of a share, and takes the last of equal ones.
    named = [(float(str(best[k].item())[:4]), k, p) for k, p in zip(kept, phrases, strict=True) if _names(p, words)]
    corners = torch.stack([_corners(boxes[k]) for _, k, _ in named]) if named else boxes.new_zeros(0, 4)
    place = "center"
    if named:
        first = max(range(len(named)), key=lambda number: (named[number][0], number))
        place = _place(corners[first] * _SIDE)
    return Located(corners, place, tuple(phrase for *_, phrase in named))


def judge_located(network: FiloNetwork, image: np.ndarray, located: Located) -> tuple[float, np.ndarray]:
    """Judge an image with boxes, as in the authors' code.

    `network`: network with the words of all places.
    `image` (ndarray of shape (h, w, 3), uint8, RGB): image of the network's size.
    Returns (float, ndarray of shape (h, w), float32): image score, and the map, lowered outside of boxes.
    """
    if network.place != "all":
        raise SettingsError(f"the network has place {network.place!r}: boxes choose one, so build it with place=all")
    with torch.inference_mode():
        embedding, patches, good, anomalous = network.understand(torch.from_numpy(image)[None])
        chosen = anomalous.mean(dim=1) if located.place == "all" else anomalous[:, PLACES.index(located.place)]
        maps, scores = network.judge(embedding, patches, good, chosen)
    anomaly_map = maps[0]
    kept = located.inside((anomaly_map.shape[0], anomaly_map.shape[1])) | (anomaly_map == 1)
    return scores.item(), torch.where(kept, anomaly_map, OUTSIDE * anomaly_map).numpy()


class GroundingDino:
    """Grounding DINO of the transformers library, from a folder; nothing is downloaded or unpickled.

    `folder`: folder written by `save_pretrained`, with `model.safetensors`.
    Raises SettingsError: transformers is not installed, or the folder holds something else.
    """

    def __init__(self, folder: Path):
        try:
            import transformers
        except ModuleNotFoundError as error:
            raise SettingsError(f"Grounding DINO needs {error.name}: {install_command('grounding')}") from error
        options: dict[str, Any] = {"local_files_only": True}
        try:
            self._processor = transformers.AutoProcessor.from_pretrained(folder, **options)
            network = transformers.GroundingDinoForObjectDetection.from_pretrained(
                folder, use_safetensors=True, **options
            )
        except (OSError, ValueError) as error:
            raise SettingsError(
                f"{folder} holds no Grounding DINO of transformers ({' '.join(str(error).split())[:200]}): give a "
                "folder with config.json, model.safetensors and the files of its processor"
            ) from error
        self._network = network.eval().requires_grad_(False)

    def locate(self, image: np.ndarray, details: Sequence[str], *, threshold: float = THRESHOLD) -> Located:
        """Find boxes around possible defects: image uint8 RGB (h, w, 3), details as in `FiloConfig.details`."""
        words = [*GENERAL, *details]
        caption = " . ".join(words).lower().strip()
        size = {"shortest_edge": _SIDE, "longest_edge": _LONGEST}
        given = self._processor(images=image, text=f"{caption}.", size=size, return_tensors="pt")
        with torch.inference_mode():
            found = self._network(**given)
        tokens, tokenizer = given["input_ids"][0], self._processor.tokenizer
        shares = found.logits[0].sigmoid()[:, : len(tokens)]
        return choose_boxes(
            shares, found.pred_boxes[0], lambda places: tokenizer.decode(tokens[places]), words, threshold=threshold
        )


def _names(phrase: str, words: Sequence[str]) -> bool:
    return any(word in phrase for word in words)


def _corners(box: Tensor) -> Tensor:
    first = box[:2] - box[2:] / 2
    return torch.cat([first, box[2:] + first])


def _place(corners: Tensor) -> str:
    centre = [(corners[axis].item() + corners[axis + 2].item()) / 2 for axis in (0, 1)]
    column, row = (next((k for k, (a, b) in enumerate(_THIRDS) if a <= each <= b), None) for each in centre)
    return "all" if column is None or row is None else PLACES[3 * row + column]
