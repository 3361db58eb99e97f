"""Small files and streams that claim more pixels than a computer can hold: refused by what they claim."""

from __future__ import annotations

import struct
import tracemalloc
import zlib

import cv2
import numpy as np
import pytest
from fakes import mjpeg_server

from edgead.images.files import ImageError, load_image
from edgead.images.header import image_size
from edgead.sources import SourceError, open_source
from edgead.sources.reopened_camera import SupervisedCamera
from edgead.sources.settings import CameraSection

SIDE = 30_000


def png(side: int) -> bytes:
    """A whole PNG of one bit a pixel, black: a thousandth of a byte for each."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = zlib.compress(bytes((side // 8 + 1) * side), 9)
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def jpeg(side: int, marker: int = 0xC0, before: bytes = b"") -> bytes:
    made = bytearray(cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes())
    at = made.index(b"\xff\xc0")
    made[at + 1] = marker
    made[at + 5 : at + 9] = struct.pack(">HH", side, side)
    made[at:at] = before
    return bytes(made)


def tiff(side: int, order: str, kind: int = 4) -> bytes:
    tags = ((256, kind, side), (257, kind, side), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1))
    entries = b"".join(
        struct.pack(order + "HHI", tag, of, 1) + struct.pack(order + {3: "HH", 4: "I"}[of], value, *([0] * (of == 3)))
        for tag, of, value in tags
    )
    start = b"II*\0" if order == "<" else b"MM\0*"
    return start + struct.pack(order + "IH", 8, len(tags)) + entries + bytes(4)


def bigtiff(side: int) -> bytes:
    entries = b"".join(struct.pack("<HHQQ", tag, 16, 1, value) for tag, value in ((256, side), (257, side)))
    return b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, 2) + entries + bytes(8)


def bmp(side: int, *, height: int | None = None) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, side, height or side, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 100, 0, 0, 54) + info + bytes(100)


def riff(content: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", len(content) + 4) + b"WEBP" + content


WEBP_SIDE = 16_383  # the most that VP8 can say: 268 megapixels
BOMBS = {
    "png": png(SIDE),
    "jpeg": jpeg(SIDE),
    "jpeg_progressive": jpeg(SIDE, 0xC2),
    "jpeg_after_a_comment": jpeg(SIDE, before=b"\xff\xfe\x00\x0b\xff\xc0 small \xff"),
    "jpeg_after_fill": jpeg(SIDE, before=b"\xff\xff\xff"),
    "bmp": bmp(SIDE),
    "bmp_from_its_top": bmp(SIDE, height=-SIDE),
    "bmp_old": b"BM" + struct.pack("<IHHIIHHHH", 126, 0, 0, 26, 12, SIDE, SIDE, 1, 24) + bytes(100),
    "tiff": tiff(SIDE, "<"),
    "tiff_big_endian": tiff(SIDE, ">"),
    "tiff_short": tiff(SIDE, "<", 3),
    "bigtiff": bigtiff(SIDE),
    "pgm": b"P5 %d %d 255\n" % (SIDE, SIDE) + bytes(100),
    "ppm_with_comments": b"P6\n# one\n#two\n %d # three\n %d\n255\n" % (SIDE, SIDE) + bytes(100),
    "pbm": b"P4 %d %d\n" % (SIDE, SIDE) + bytes(100),
    "pgm_text": b"P2 %d %d 255\n0 0 0" % (SIDE, SIDE),
    "webp": riff(
        b"VP8 " + struct.pack("<I", 100) + b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", WEBP_SIDE, WEBP_SIDE) + bytes(90)
    ),
    "webp_lossless": riff(
        b"VP8L" + struct.pack("<IBI", 100, 0x2F, (WEBP_SIDE - 1) << 14 | (WEBP_SIDE - 1)) + bytes(95)
    ),
    "webp_extended": riff(b"VP8X" + struct.pack("<II", 10, 0) + (SIDE - 1).to_bytes(3, "little") * 2),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_file_is_refused_by_its_header(tmp_path, name):
    (tmp_path / "part.png").write_bytes(BOMBS[name])
    tracemalloc.start()
    try:
        with pytest.raises(ImageError, match="part.png: .* megapixels, at most"):
            load_image(tmp_path / "part.png")
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tiff", ".webp", ".ppm", ".pgm"])
@pytest.mark.parametrize("seed", range(5))
def test_the_header_says_what_opencv_decodes(suffix, seed):
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(1, 400, 2))
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    lossy = [cv2.IMWRITE_WEBP_QUALITY, 80] if suffix == ".webp" and seed % 2 else []
    progressive = [cv2.IMWRITE_JPEG_PROGRESSIVE, seed % 2] if suffix == ".jpg" else []
    data = cv2.imencode(suffix, image[..., 0] if suffix == ".pgm" else image, [*lossy, *progressive])[1].tobytes()
    assert image_size(data) == (height, width)
    for part in range(0, min(len(data), 64)):  # a header that is cut off says nothing, or the same
        assert image_size(data[:part]) in (None, (height, width))


@pytest.mark.parametrize(
    "start", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"P5 ", b"RIFF"]
)
def test_noise_after_any_start_is_read_without_an_error(start):
    rng = np.random.default_rng(0)
    for length in range(200):
        size = image_size(start + rng.bytes(length))
        assert size is None or len(size) == 2


def test_what_is_no_image_that_is_known_is_refused(tmp_path):
    (tmp_path / "part.png").write_bytes(b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100))
    with pytest.raises(ImageError, match="not an image .JPEG, PNG, BMP, TIFF, PNM or WebP"):
        load_image(tmp_path / "part.png")


def test_a_folder_has_its_own_limit(tmp_path):
    cv2.imwrite(str(tmp_path / "part.png"), np.zeros((200, 300, 3), np.uint8))
    assert next(iter(open_source(tmp_path, max_megapixels=0.06))).image.shape == (200, 300, 3)
    with pytest.raises(SourceError, match="300 x 200 pixels are 0.06 megapixels, at most 0.05 .*max_megapixels"):
        next(iter(open_source(tmp_path, max_megapixels=0.05)))


def test_a_live_camera_whose_frames_are_too_large_is_lost_with_the_reason():
    with mjpeg_server(1000) as server:
        section = CameraSection(uri=f"{server.url}/live.mjpg", max_megapixels=0.01, retry_first_s=30)
        camera = SupervisedCamera("top", section)
        mailbox = camera.subscribe()
        camera.start()
        try:
            with pytest.raises(TimeoutError):
                mailbox.get(0.1)
            for _ in range(300):
                if camera.status().state == "lost":
                    break
                camera._stop.wait(0.1)
            status = camera.status()
            assert status.state == "lost" and camera.latest() is None
            assert "160 x 120 pixels are 0.0192 megapixels, at most 0.01" in str(status)
        finally:
            camera.close()
