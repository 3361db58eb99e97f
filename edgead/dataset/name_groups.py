"""Groups by file names and capture times; none where these are not clear."""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

# A name is what comes before its last number, that number, and what comes after it.
_LAST_NUMBER = re.compile(r"(.*?)([0-9]+)([^0-9]*)", re.DOTALL)
_FEWEST_STEMS = 5
_FEWEST_IMAGES = 20
# Otsu's share of the variance of the logarithms that two classes of gaps explain: 0.64 for a normal distribution, 0.75
# for a uniform one. A few wide gaps between long runs are other recordings, not other parts.
_MIN_SEPARATION, _MIN_RATIO, _WIDE_SHARES = 0.8, 16.0, (0.05, 0.7)
# Where EXIF may stand in a JPEG: among the segments before the image.
_HEAD_BYTES = 1 << 17
_EXIF_POINTER, _DATE_TIME, _DATE_TIME_ORIGINAL = 0x8769, 0x0132, 0x9003


@dataclass(frozen=True, slots=True)
class Evidence:
    """Images with equal keys belong together, for the reason in `account`."""

    keys: Sequence[Hashable]
    account: str


def by_stem(paths: Sequence[Path]) -> Evidence | None:
    """Take names such as kos12_Part6 for image 6 of the part kos12: numbers that start again for each of many stems."""
    matches = [_LAST_NUMBER.fullmatch(path.stem) for path in paths]
    if not all(match and match[1] for match in matches):
        return None
    stems = [(match[1], match[3]) for match in matches if match]
    indices = {int(match[2]) for match in matches if match}
    sizes = Counter(stems)
    shared = sum(size for size in sizes.values() if size > 1)
    if len(sizes) < _FEWEST_STEMS or shared < len(paths) / 2 or len(indices) > len(paths) / 2:
        return None
    return Evidence(stems, f"{len(sizes)} parts from names such as {paths[0].name}")


def by_counter(paths: Sequence[Path]) -> Evidence | None:
    """Take names that count up with wide gaps between runs, such as exp3_num_54291, for captures of one thing each."""
    matches = [_LAST_NUMBER.fullmatch(path.stem) for path in paths]
    if not all(matches) or len({re.sub("[0-9]+", "#", path.stem) for path in paths}) > 1:
        return None
    counters = [int(match[2]) for match in matches if match]
    if len(set(counters)) < 0.95 * len(counters):
        return None
    found = runs(counters)
    if found is None:
        return None
    keys, cut = found
    return Evidence(keys, f"names that count up, with gaps above {cut:.0f} between groups")


def by_time(paths: Sequence[Path]) -> Evidence | None:
    """Take images that were captured close together, with wide gaps between, for one thing each."""
    times = [capture_time(path) for path in paths]
    known = [time for time in times if time is not None]
    found = runs(known) if len(known) == len(paths) else None
    if found is None:
        return None
    keys, cut = found
    return Evidence(keys, f"capture times, with gaps above {cut:.0f} s between groups")


def runs(values: Sequence[float]) -> tuple[list[int], float] | None:
    """Split values where gaps are wide; None unless narrow and wide gaps are clearly two kinds.

    Otsu, "A threshold selection method from gray-level histograms", 1979, on the logarithms of the gaps.

    Returns
    -------
    (list of int, float)
        Number of the run of each value, and the gap above which a new one begins.
    """
    if len(values) < _FEWEST_IMAGES:
        return None
    order = np.argsort(values, kind="stable")
    gaps = np.maximum(np.diff(np.asarray(values, np.float64)[order]), 1)
    logs = np.sort(np.log(gaps))
    narrow = np.arange(1, len(logs))
    sums = np.cumsum(logs)
    lower, upper = sums[:-1] / narrow, (sums[-1] - sums[:-1]) / (len(logs) - narrow)
    share = narrow / len(logs)
    between = share * (1 - share) * (upper - lower) ** 2
    at = int(np.argmax(between))
    wide = 1 - share[at]
    clear = between[at] > _MIN_SEPARATION * logs.var() and upper[at] - lower[at] >= np.log(_MIN_RATIO)
    if not (clear and _WIDE_SHARES[0] <= wide <= _WIDE_SHARES[1]):
        return None
    cut = float(np.exp((logs[at] + logs[at + 1]) / 2))
    keys = np.empty(len(values), int)
    keys[order] = np.concatenate([[0], np.cumsum(gaps > cut)])
    return keys.tolist(), cut


def capture_time(path: Path) -> float | None:
    """Read DateTimeOriginal, or else DateTime, of a JPEG's EXIF block as seconds; None where it has none.

    CIPA DC-008 (Exif 2.32), section 4.5: a TIFF structure in a segment APP1.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    start = head.find(b"Exif\0\0") + 6
    if not head.startswith(b"\xff\xd8") or start < 6:
        return None
    block = head[start:]
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    try:
        if order is None:
            return None
        tags = _tags(block, order, *struct.unpack_from(f"{order}I", block, 4))
        if _EXIF_POINTER in tags:
            tags |= _tags(block, order, tags[_EXIF_POINTER])
        at = tags.get(_DATE_TIME_ORIGINAL, tags.get(_DATE_TIME))
        if at is None:
            return None
        text = block[at : at + 19].decode("ascii")
        return datetime.strptime(text, "%Y:%m:%d %H:%M:%S").replace(tzinfo=timezone.utc).timestamp()
    except (struct.error, ValueError):
        return None  # a damaged block says nothing of the time; the image itself is checked where it is loaded


def _tags(block: bytes, order: str, at: int) -> dict[int, int]:
    """Tags of one directory with their values, or the places where these stand."""
    (count,) = struct.unpack_from(f"{order}H", block, at)
    entries = (struct.unpack_from(f"{order}HHII", block, at + 2 + 12 * i) for i in range(count))
    return {tag: value for tag, _, _, value in entries}
