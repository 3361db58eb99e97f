"""Reading of codes in an image: QR, Data Matrix, Code 128, and retail barcodes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import cv2
import numpy as np

from edgead.errors import SettingsError
from edgead.process.installation import install_command

CodeKind = Literal["qr", "data_matrix", "code_128", "barcode"]


class CodeReader:
    """Reader of codes at any angle, by ZXing-C++ in one thread.

    `kinds` (sequence of {"qr", "data_matrix", "code_128", "barcode"}): "qr" includes Micro QR; "barcode" is EAN-8,
        EAN-13, UPC-E and UPC-A, which is returned as the equivalent EAN-13, with a leading 0.
    Raises SettingsError: the package zxing-cpp is missing.
    """

    def __init__(self, kinds: Sequence[CodeKind]):
        try:
            import zxingcpp
        except ModuleNotFoundError:
            needed = install_command("daemon")
            raise SettingsError(f"zxing-cpp is missing: to read codes of parts needs `{needed}`") from None
        formats = {
            "qr": [zxingcpp.QRCode, zxingcpp.MicroQRCode],
            "data_matrix": [zxingcpp.DataMatrix],
            "code_128": [zxingcpp.Code128],
            "barcode": [zxingcpp.EANUPC],
        }
        asked = zxingcpp.BarcodeFormats([one for kind in kinds for one in formats[kind]])
        self._read = partial(zxingcpp.read_barcodes, formats=asked)

    def read(self, image: np.ndarray) -> tuple[str, ...]:
        """Read the codes of an image, (H, W, 3) uint8; each text once, sorted."""
        # A border, as codes at the edge of a region have no quiet zone and are not found without one.
        padded = cv2.copyMakeBorder(image, 16, 16, 16, 16, cv2.BORDER_REPLICATE)
        return tuple(sorted({code.text.strip() for code in self._read(padded)} - {""}))
