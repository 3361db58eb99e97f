"""Codes in an image: QR codes, and the barcodes of trade."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np

from edgead.process.quiet_libraries import quiet_opencv

CodeKind = Literal["qr", "barcode"]


class CodeReader:
    """Reads codes with OpenCV, in one thread.

    Parameters
    ----------
    kinds : sequence of {"qr", "barcode"}
        "barcode" is EAN-8, EAN-13, UPC-A and UPC-E, which is what OpenCV reads.
    """

    def __init__(self, kinds: Sequence[CodeKind]):
        made = {"qr": cv2.QRCodeDetector, "barcode": cv2.barcode.BarcodeDetector}
        self._detectors = [made[kind]() for kind in kinds]

    def read(self, image: np.ndarray) -> tuple[str, ...]:
        """Read the codes of an image, (H, W, 3) uint8; each text once, in the order of the alphabet."""
        found: set[str] = set()
        # A border: codes that touch the edge of a region have no quiet zone, and OpenCV finds them only with one.
        padded = cv2.copyMakeBorder(image, 16, 16, 16, 16, cv2.BORDER_REPLICATE)
        for detector in self._detectors:
            try:
                with quiet_opencv():
                    _, texts, *_ = detector.detectAndDecodeMulti(padded)
            except cv2.error:
                continue  # it found something that is no code after all
            found.update(text.strip() for text in texts)
        return tuple(sorted(found - {""}))
