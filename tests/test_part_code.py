"""Serial numbers from codes: read, unread, several, too slow, and never a reason to end an inspection."""

from __future__ import annotations

import time
from contextlib import closing
from datetime import datetime, timezone

import cv2
import numpy as np
import pytest

from edgead.daemon.part_code import PartCode
from edgead.images.codes import CodeReader
from edgead.site.part_naming import CodeSection
from edgead.types import NO_PART, Frame, Part

REGION = (40, 20, 300, 300)
EAN_13 = "4006381333931"
# ISO/IEC 15420: the left-hand digits, and which of the first six are mirrored complements, by the leading digit 4.
LEFT = "0001101 0011001 0010011 0111101 0100011 0110001 0101111 0111011 0110111 0001011".split()
MIRRORED = "010011"


def qr(text, side=240):
    return cv2.resize(cv2.QRCodeEncoder.create().encode(text), (side, side), interpolation=cv2.INTER_NEAREST)


def barcode(digits, module=4, height=120):
    complement = [left.translate(str.maketrans("01", "10")) for left in LEFT]
    pairs = zip(digits[1:7], MIRRORED, strict=True)
    left = "".join(complement[int(digit)][::-1] if mirrored == "1" else LEFT[int(digit)] for digit, mirrored in pairs)
    bits = f"101{left}01010{''.join(complement[int(digit)] for digit in digits[7:])}101"
    bars = np.array([[255 * (bit == "0") for bit in bits]], np.uint8)
    image = np.repeat(np.repeat(bars, module, 1), height, 0)
    return cv2.GaussianBlur(cv2.copyMakeBorder(image, 80, 80, 100, 100, cv2.BORDER_CONSTANT, value=255), (3, 3), 0)


def frame(*codes, part=NO_PART, at=((70, 50),)):
    image = np.full((400, 640), 255, np.uint8)
    for code, (x, y) in zip(codes, at, strict=False):
        image[y : y + code.shape[0], x : x + code.shape[1]] = code
    return Frame(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), 3, 0, datetime.now(timezone.utc), "top", part=part)


def opened(**settings):
    return closing(PartCode("caps", CodeSection(region=REGION, **{"within_ms": 2000, **settings})))


def test_a_code_in_the_region_is_the_serial_number():
    with opened() as code:
        named = code.named(frame(qr("A-0017"), part=Part(batch="b 7")))
        assert named.part == Part("A-0017", "b 7") and code.counts == {"read": 1, "unread": 0, "differs": 0}


def test_a_barcode_is_read_where_it_is_asked_for():
    image = cv2.cvtColor(barcode(EAN_13), cv2.COLOR_GRAY2BGR)
    assert CodeReader(["qr", "barcode"]).read(image) == (EAN_13,)
    assert CodeReader(["qr"]).read(image) == ()


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (frame(), "none is found"),
        (frame(qr("A-0017"), at=((380, 50),)), "none is found"),  # outside of the region
        (frame(qr("A1", 120), qr("A2", 120), at=((50, 30), (200, 180))), "2 codes are in its region"),
        (frame(qr("A" * 129)), "serial has 129 characters"),
    ],
)
def test_what_cannot_be_read_leaves_the_part_as_the_trigger_named_it(image, reason, caplog):
    with opened() as code:
        assert code.named(image) is image
        assert code.counts == {"read": 0, "unread": 1, "differs": 0}
    assert reason in caplog.text and "caps: frame 3: its code is not read" in caplog.text


def test_a_region_outside_of_the_frame_is_a_reason_and_no_fault(caplog):
    with closing(PartCode("caps", CodeSection(region=(600, 0, 100, 100)))) as code:
        assert code.named(frame()).part == Part() and code.counts["unread"] == 1
    assert "its region ends outside of the frame, 640 x 400 pixels" in caplog.text


def test_a_code_that_says_something_else_than_the_trigger_counts_and_is_logged(caplog):
    with opened() as code:
        assert code.named(frame(qr("A2"), part=Part("A1"))).part.serial == "A2"
        assert code.named(frame(qr("A2"), part=Part("A2"))).part.serial == "A2"
        assert code.counts == {"read": 2, "unread": 0, "differs": 1}
    assert "its code says A2, its trigger said A1" in caplog.text


def test_a_reading_that_does_not_end_holds_up_no_frame(monkeypatch, caplog):
    monkeypatch.setattr(CodeReader, "read", lambda self, image: time.sleep(0.5) or ("A1",))
    with opened(within_ms=5) as code:
        begin_s = time.monotonic()
        for _ in range(3):
            assert code.named(frame()).part == Part()
        assert time.monotonic() - begin_s < 0.4 and code.counts["unread"] == 3
    assert "longer than 5 ms" in caplog.text and "an earlier one is still being read" in caplog.text


def test_a_reading_that_fails_is_one_that_read_nothing(monkeypatch):
    def fail(self, image):
        raise RuntimeError("what nobody foresaw")

    monkeypatch.setattr(CodeReader, "read", fail)
    with opened() as code:
        assert code.named(frame()).part == Part() and code.counts["unread"] == 1
