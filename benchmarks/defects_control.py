"""The control of the forecasts: the same defects at the same places by Poisson blending."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from edgead.dataset.made_sets import MadeImage
from edgead.images.files import load_image

_ROOM_PX = 16  # beyond the part, for what sticks out of it


def poisson(folder: Path, made: MadeImage) -> np.ndarray:
    """The same defect at the same place by cv2.seamlessClone (Perez et al. 2003)."""
    assert made.reject is not None and made.transform is not None
    place = made.transform
    good, reject = load_image(folder / made.good), load_image(folder / made.reject)
    of_mask = made.reject.replace("/test/", "/ground_truth/", 1)
    mask = load_image((folder / of_mask).with_name(f"{Path(made.reject).stem}_mask.png"))[:, :, 0]
    size = (round(reject.shape[1] * place.scale[0]), round(reject.shape[0] * place.scale[1]))
    reject, mask = cv2.resize(reject, size), cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST)
    wide = cv2.dilate(mask, np.ones((7, 7), np.uint8))
    there = load_image(folder / made.mask)[:, :, 0]
    rows, columns = np.nonzero(there)
    own_rows, own_columns = np.nonzero(mask)
    shift = (rows.min() - own_rows.min(), columns.min() - own_columns.min())
    target = cv2.copyMakeBorder(good, *(4 * [_ROOM_PX]), cv2.BORDER_REPLICATE)
    matrix = np.float32([[1, 0, shift[1] + _ROOM_PX], [0, 1, shift[0] + _ROOM_PX]])
    shape = target.shape[1::-1]
    moved = cv2.warpAffine(reject, matrix, shape, borderMode=cv2.BORDER_REPLICATE)
    of_defect = cv2.warpAffine(wide, matrix, shape, flags=cv2.INTER_NEAREST)
    of_defect[:2], of_defect[-2:], of_defect[:, :2], of_defect[:, -2:] = 0, 0, 0, 0
    x, y, width, height = cv2.boundingRect(of_defect)
    middle = (x + width // 2, y + height // 2)
    result = cv2.seamlessClone(moved, target, of_defect, middle, cv2.NORMAL_CLONE)
    return result[_ROOM_PX:-_ROOM_PX, _ROOM_PX:-_ROOM_PX]
