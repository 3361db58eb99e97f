"""Size and depth of an image file from its header, to refuse claims of huge sizes before decoding."""

from __future__ import annotations

import re
import struct
from typing import NamedTuple

_PNM = re.compile(rb"P[1-6](?:\s|#[^\n]*\n)+(\d{1,10})(?:\s|#[^\n]*\n)+(\d{1,10})\s")
_PGM_LEVELS = re.compile(rb"P[25](?:\s|#[^\n]*\n)+\d{1,10}(?:\s|#[^\n]*\n)+\d{1,10}(?:\s|#[^\n]*\n)+(\d{1,10})\s")
_TIFF_TAGS = {
    254: "kind",
    256: "width",
    257: "height",
    258: "bits",
    277: "channels",
    284: "planes",
    339: "numbers",
}
_TIFF_NUMBERS = {3: "H", 4: "I", 16: "Q"}  # SHORT, LONG, LONG8
# Markers of JPEG without a length: TEM, and the restarts.
_JPEG_BARE = {0x01, *range(0xD0, 0xD8)}
_JPEG_NO_FRAME = {0xC4, 0xC8, 0xCC}  # markers within the range of frame headers that are none


def image_size(data: bytes) -> tuple[int, int] | None:
    """Read (height, width) of a JPEG, PNG, BMP, TIFF, PNM or WebP file; None if it is none of these, or cut off."""
    for start, read in _READERS.items():
        if data.startswith(start):
            try:
                return read(data)
            except (struct.error, IndexError, OverflowError):  # the header is cut off, or points beyond any file
                return None
    return None


def deep_channels(data: bytes) -> int:
    """Number of channels with more than 8 bits in a PNG, TIFF or PGM file, from its header; 0 if there is no depth.

    1 means values; 4 colours with heights; 3, only in a TIFF of 32 bits, points with X, Y and Z.
    """
    try:
        if data.startswith(b"\x89PNG"):
            return {0: 1, 6: 4}.get(data[25], 0) if data[24] == 16 else 0  # colour type 0 is grey, 6 is RGBA
        if data.startswith((b"II", b"MM")):
            tags = _tiff_tags(data)
            channels, bits = tags.get("channels", 1), tags.get("bits", 1)
            if channels > 1 and tags.get("planes", 1) != 1:  # separate planes, which OpenCV reads as noise
                return 0
            return channels if bits > {1: 8, 3: 31, 4: 8}.get(channels, bits) else 0
        found = _PGM_LEVELS.match(data)
        return 1 if found is not None and int(found[1]) > 255 else 0
    except (struct.error, IndexError, OverflowError):
        return 0


def _png(data: bytes) -> tuple[int, int] | None:
    width, height = struct.unpack_from(">II", data, 16)
    return (height, width) if data[12:16] == b"IHDR" else None


def _jpeg(data: bytes) -> tuple[int, int] | None:
    at = 2
    while (at := data.find(b"\xff", at)) >= 0:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker == 0 or marker in _JPEG_BARE:
            at += 2
        elif 0xC0 <= marker <= 0xCF and marker not in _JPEG_NO_FRAME:
            return struct.unpack_from(">HH", data, at + 5)
        else:
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return None


def _bmp(data: bytes) -> tuple[int, int]:
    old = struct.unpack_from("<I", data, 14)[0] == 12
    width, height = struct.unpack_from("<HH" if old else "<ii", data, 18)
    return abs(height), abs(width)  # a negative height means that rows start at the top


def _tiff(data: bytes) -> tuple[int, int] | None:
    tags = _tiff_tags(data)
    return (tags["height"], tags["width"]) if {"height", "width"} <= tags.keys() else None


class TiffPage(NamedTuple):
    """Format of a TIFF page; `numbers` is 1 for unsigned integers, 2 for signed ones, 3 for floats."""

    height: int
    width: int
    bits: int
    channels: int
    numbers: int
    is_reduced: bool


def tiff_pages(data: bytes, most: int) -> list[TiffPage] | None:
    """List at most `most` pages of a TIFF file; None if a page is missing or damaged."""
    pages: list[TiffPage] = []
    seen: set[int] = set()
    try:
        order, big = _tiff_layout(data)
        at = _tiff_first(data)
        while at and len(pages) < most:
            if at in seen:
                return None
            seen.add(at)
            tags = _tiff_tags(data, at)
            sizes = tags["height"], tags["width"], tags.get("bits", 1), tags.get("channels", 1)
            pages.append(TiffPage(*sizes, tags.get("numbers", 1), bool(tags.get("kind", 0) & 5)))
            count = struct.unpack_from(order + ("Q" if big else "H"), data, at)[0]
            after = at + (8 + 20 * count if big else 2 + 12 * count)
            at = struct.unpack_from(order + ("Q" if big else "I"), data, after)[0]
    except (struct.error, IndexError, KeyError, OverflowError):
        return None
    return pages


def is_stack(data: bytes) -> bool:
    """Whether the data is a TIFF file with several pages of one format, or with a missing second page."""
    if data[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+") or not tiff_pages(data, 1):
        return False
    pages = tiff_pages(data, 2)
    return pages is None or (len(pages) == 2 and pages[0] == pages[1])


def _tiff_layout(data: bytes) -> tuple[str, bool]:
    """Byte order of a TIFF file, and whether it is a BigTIFF."""
    order = "<" if data[:2] == b"II" else ">"
    return order, struct.unpack_from(order + "H", data, 2)[0] == 43


def _tiff_first(data: bytes) -> int:
    order, big = _tiff_layout(data)
    return int(struct.unpack_from(order + ("Q" if big else "I"), data, 8 if big else 4)[0])


def _tiff_tags(data: bytes, at: int | None = None) -> dict[str, int]:
    """Read the tags of the page at an offset, by default the first."""
    order, big = _tiff_layout(data)
    at = _tiff_first(data) if at is None else at
    count = struct.unpack_from(order + ("Q" if big else "H"), data, at)[0]
    first, step = (at + 8, 20) if big else (at + 2, 12)
    tags: dict[str, int] = {}
    for entry in range(first, first + step * min(count, 4096), step):
        tag, kind = struct.unpack_from(order + "HH", data, entry)
        if tag in _TIFF_TAGS and kind in _TIFF_NUMBERS:
            place, number = entry + (12 if big else 8), order + _TIFF_NUMBERS[kind]
            values = struct.unpack_from(order + ("Q" if big else "I"), data, entry + 4)[0]
            if values * struct.calcsize(number) > (8 if big else 4):  # the field holds their offset
                place = struct.unpack_from(order + ("Q" if big else "I"), data, place)[0]
            value = struct.unpack_from(number, data, place)[0]
            tags.setdefault(_TIFF_TAGS[tag], value)
    return tags


def _pnm(data: bytes) -> tuple[int, int] | None:
    found = _PNM.match(data)
    return (int(found[2]), int(found[1])) if found else None


def _webp(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16] if data[8:12] == b"WEBP" else b""
    if kind == b"VP8X":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        return (height, width) if len(data) >= 30 else None
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", data, 21)[0]
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return height & 0x3FFF, width & 0x3FFF
    return None


_READERS = {
    b"\x89PNG\r\n\x1a\n": _png,
    b"\xff\xd8": _jpeg,
    b"BM": _bmp,
    b"II*\0": _tiff,
    b"MM\0*": _tiff,
    b"II+\0": _tiff,
    b"MM\0+": _tiff,
    b"P": _pnm,
    b"RIFF": _webp,
}
