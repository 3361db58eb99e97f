"""Serial numbers from codes: read, unread, several, too slow, and never a reason to end an inspection."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from datetime import datetime, timezone
from typing import get_args

import cv2
import numpy as np
import pytest

zxingcpp = pytest.importorskip("zxingcpp", reason="codes need the daemon's packages")
from edgead.errors import SettingsError  # noqa: E402
from edgead.images.codes import CodeKind, CodeReader  # noqa: E402
from edgead.line.daemon.part_code import PartCode  # noqa: E402
from edgead.line.site.part_naming import CodeSection  # noqa: E402
from edgead.types import NO_PART, Frame, Part  # noqa: E402

REGION = (40, 20, 300, 300)


def qr(text, side=240):
    return cv2.resize(cv2.QRCodeEncoder.create().encode(text), (side, side), interpolation=cv2.INTER_NEAREST)


def drawn(kind, text):
    """A code of another kind, turned and noisy, as a camera sees it; uint8 BGR."""
    code = zxingcpp.write_barcode_to_image(zxingcpp.create_barcode(text, kind), scale=4)
    image = cv2.copyMakeBorder(np.array(code), 60, 60, 60, 60, cv2.BORDER_CONSTANT, value=200)
    height, width = image.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 17, 1)
    image = cv2.warpAffine(image, turn, (width, height), borderValue=200)
    noise = np.random.default_rng(0).normal(0, 15, image.shape)
    return cv2.cvtColor(np.clip(image + noise, 0, 255).astype(np.uint8), cv2.COLOR_GRAY2BGR)


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


@pytest.mark.parametrize(
    ("kind", "drawn_as", "text"),
    [
        ("qr", zxingcpp.QRCode, "A-0017"),
        ("qr", zxingcpp.MicroQRCode, "A17"),
        ("data_matrix", zxingcpp.DataMatrix, "SN 4711/x"),
        ("data_matrix", zxingcpp.DataMatrix, "Größe 7"),
        ("code_128", zxingcpp.Code128, "AB-1234"),
        ("barcode", zxingcpp.EAN13, "4006381333931"),
        ("barcode", zxingcpp.EAN8, "96385074"),
        ("barcode", zxingcpp.UPCA, "0036000291452"),
    ],
)
def test_a_code_is_read_where_its_kind_is_asked_for(kind, drawn_as, text):
    image = drawn(drawn_as, text)
    assert CodeReader([kind]).read(image) == (text,)
    others = [other for other in get_args(CodeKind) if other != kind]
    assert CodeReader(others).read(image) == ()
    assert CodeReader([kind, *others]).read(image) == (text,)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "zxingcpp", None)
    with pytest.raises(SettingsError, match="zxing-cpp is missing: .*pip install .*daemon"):
        CodeReader(["qr"])


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
