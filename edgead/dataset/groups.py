"""Groups of images that belong together: one part taken several times, a batch, a light. Hold-out keeps them together.

Groups come from folders, a table, or file names and capture times, if the names or times are clear.
"""

from __future__ import annotations

import os
import re
import struct
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from edgead.calibration.plan import GROUPS, IMAGES
from edgead.dataset.errors import DatasetError
from edgead.dataset.layouts.registry import read_layout
from edgead.dataset.layouts.tables import read_csv
from edgead.dataset.made_sets import refuse_made
from edgead.dataset.near_duplicates import near_duplicates
from edgead.errors import SettingsError
from edgead.images.volumes import by_volume, is_volume, slices_of, volume_of

# A name is split into the part before its last number, that number, and the part after it.
_LAST_NUMBER = re.compile(r"(.*?)([0-9]+)([^0-9]*)", re.DOTALL)
_FEWEST_STEMS = 5
_FEWEST_IMAGES = 20
# Share of the variance of the logarithms of gaps that two classes must explain (Otsu): it is 0.64 for a normal
# distribution, 0.75 for a uniform one. A few wide gaps between long runs are other recordings, not other parts.
_MIN_SEPARATION, _MIN_RATIO, _WIDE_SHARES = 0.8, 16.0, (0.05, 0.7)
# EXIF is among the segments before the image of a JPEG; so many bytes are searched.
_HEAD_BYTES = 1 << 17
_EXIF_POINTER, _DATE_TIME, _DATE_TIME_ORIGINAL = 0x8769, 0x0132, 0x9003
AUTO, NONE, FOLDERS = "auto", "none", "folders"
_NOTHING = "no near-duplicates, no clear names or times"


@dataclass(frozen=True, slots=True)
class GroupEvidence:
    """Evidence of groups: a key for each image, equal within a group, and the reason in `account`."""

    keys: Sequence[Hashable]
    account: str


def by_stem(paths: Sequence[Path]) -> GroupEvidence | None:
    """Group by stems of names such as kos12_Part6, image 6 of kos12, if numbers restart for each of many stems."""
    matches = [_LAST_NUMBER.fullmatch(path.stem) for path in paths]
    if not all(match and match[1] for match in matches):
        return None
    stems = [(match[1], match[3]) for match in matches if match]
    indices = {int(match[2]) for match in matches if match}
    sizes = Counter(stems)
    shared = sum(size for size in sizes.values() if size > 1)
    if len(sizes) < _FEWEST_STEMS or shared < len(paths) / 2 or len(indices) > len(paths) / 2:
        return None
    return GroupEvidence(stems, f"{len(sizes)} parts from names such as {paths[0].name}")


def by_counter(paths: Sequence[Path]) -> GroupEvidence | None:
    """Group by runs of numbers in names such as exp3_num_54291, if wide gaps separate the runs."""
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
    return GroupEvidence(keys, f"names that count up, with gaps above {cut:.0f} between groups")


def by_time(paths: Sequence[Path]) -> GroupEvidence | None:
    """Group by capture time, if wide gaps separate bursts of images."""
    times = [capture_time(path) for path in paths]
    known = [time for time in times if time is not None]
    found = runs(known) if len(known) == len(paths) else None
    if found is None:
        return None
    keys, cut = found
    return GroupEvidence(keys, f"capture times, with gaps above {cut:.0f} s between groups")


def runs(values: Sequence[float]) -> tuple[list[int], float] | None:
    """Split values at wide gaps; None unless gaps are clearly of two kinds, narrow and wide.

    Otsu, "A threshold selection method from gray-level histograms", 1979, on the logarithms of the gaps.

    Returns (list of int, float): number of the run of each value, and the gap above which a new run begins.
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
    """Read DateTimeOriginal, or else DateTime, of a JPEG's EXIF block as seconds; None if it has none.

    CIPA DC-008 (Exif 2.32), section 4.5: a TIFF structure in a segment APP1.
    """
    if path.is_dir():  # a volume
        return None
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
        return None  # a damaged block has no time; the image itself is checked when it is loaded


def _tags(block: bytes, order: str, at: int) -> dict[int, int]:
    """Read the tags of one directory with their values, or the offsets of these."""
    (count,) = struct.unpack_from(f"{order}H", block, at)
    entries = (struct.unpack_from(f"{order}HHII", block, at + 2 + 12 * i) for i in range(count))
    return {tag: value for tag, _, _, value in entries}


@dataclass(frozen=True, slots=True)
class Groups:
    """Groups of a set of images.

    `rule`: requested rule; see `group_images`.
    `numbers`: group of each image, in their order; groups are numbered by first appearance.
    `account`: sentence on the number of groups and the evidence for them.
    """

    rule: str
    numbers: Mapping[Path, int]
    account: str

    @property
    def count(self) -> int:
        return len(set(self.numbers.values()))

    @property
    def are_single(self) -> bool:
        """Whether every image is a group of its own."""
        return self.count == len(self.numbers)

    @property
    def unit(self) -> str:
        """Unit of hold-out and counts, by the name that `edgead.calibration.plan` uses in its messages."""
        return IMAGES if self.are_single else GROUPS

    def of(self, paths: Iterable[Path]) -> list[int]:
        """Return the group numbers of some of the images."""
        return [self.numbers[path] for path in paths]

    def facts(self, learnt: Sequence[Path], held_out: Sequence[Path]) -> dict[str, object]:
        """Facts about the groups for the manifest."""
        return {
            "rule": self.rule,
            "account": self.account,
            "groups": self.count,
            "learnt_groups": len(set(self.of(learnt))),
            "held_out_groups": len(set(self.of(held_out))),
        }


def group_images(paths: Sequence[Path], rule: str = AUTO, root: Path | None = None) -> Groups:
    """Find the images that belong together. The slices of a volume always do, and a volume is compared as one image.

    `paths`: readable images.
    `rule`: "auto": near-duplicates by content, and the groups that the data set names (`edgead.dataset.layouts`), or
        else names and capture times, if they are clear. "folders": the same within each folder, for folders of
        products, as images of one product look like duplicates beside those of another. "none": every image is a group
        of its own. A path that ends in .csv: a file with the columns path and group, with paths relative to `root` or
        file names. Anything else: a regular expression that is searched in the file name, whose first group, or else
        the whole match, is the group.
    `root`: data set: a folder, or a file that lists images.
    Raises SettingsError: the CSV file is missing, or lacks a column or an image; the regular expression is invalid or
        does not match.
    Raises DatasetError: images are in a folder of made defects.
    """
    refuse_made(paths)
    if any(map(volume_of, paths)):
        things = by_volume(paths)
        found = group_images(list(things), rule, root)
        volumes = sum(volume_of(slices[0]) is not None for slices in things.values())
        spread = {path: found.numbers[thing] for thing, slices in things.items() for path in slices}
        account = f"{len(paths)} slices of {volumes} volumes; {found.account.replace(' images', ' volumes')}"
        return Groups(rule, {path: spread[path] for path in paths}, account)
    if rule == NONE:
        return _numbered(rule, paths, list(range(len(paths))), "as asked")
    if rule == AUTO:
        return _numbered(rule, paths, *_found(paths, _named_in(root)))
    if rule == FOLDERS:
        return _numbered(rule, paths, *_found_apart(paths))
    if rule.lower().endswith(".csv"):
        return _numbered(rule, paths, _keys_from_csv(paths, Path(rule), root), f"from {Path(rule).name}")
    return _numbered(rule, paths, _keys_from_names(paths, rule), f"from names by {rule}")


def most_groups(paths: Sequence[Path], rule: str = AUTO, root: Path | None = None) -> int:
    """Count the groups that `group_images` finds at most, by names alone: no image is read."""
    if any(map(volume_of, paths)):
        return len(by_volume(paths))
    evidence = by_stem(paths) if rule == AUTO else None
    return len(paths) if evidence is None or _named_in(root) else len(set(evidence.keys))


def leaks(groups: Groups, learnt: Sequence[Path], held_out: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Find pairs of a held-out and a learnt image that are near-duplicates."""
    if groups.rule in (AUTO, FOLDERS) or not learnt or not held_out:
        return []  # this rule puts near-duplicates into one group
    first = len(by_volume(learnt))
    both = [*by_volume(learnt), *by_volume(held_out)]
    return [(both[j], both[i]) for i, j in _alike(both) if i < first <= j]


def leak_warning(pairs: Sequence[tuple[Path, Path]], held_out: int) -> str:
    """Format a warning on the pairs that `leaks` found; empty if there are none."""
    if not pairs:
        return ""
    images = len({kept for kept, _ in pairs})
    kept, learnt = pairs[0]
    return (
        f"{images} of {held_out} held-out images look like learnt ones, {kept.name} like {learnt.name} first: where "
        "they show the same part, more parts are rejected than the rate says; name them as one group with --group"
    )


def _found_apart(paths: Sequence[Path]) -> tuple[list[Hashable], str]:
    """Group images by evidence within each folder."""
    inside: dict[Path, list[Path]] = {}
    for path in paths:
        inside.setdefault(path.parent, []).append(path)
    keys: dict[Path, Hashable] = {}
    accounts = {}
    for folder, own in inside.items():
        found, accounts[folder] = _found(own, {})
        keys |= {path: (folder, key) for path, key in zip(own, found, strict=True)}
    reasons = [f"{folder}: {account}" for folder, account in accounts.items() if account != _NOTHING]
    return [keys[path] for path in paths], f"{len(inside)} folders apart, {'; '.join(reasons) or _NOTHING}"


def _named_in(data: Path | None) -> Mapping[Path, str]:
    """Read the groups that a data set names itself; empty without a data set, or if it names none."""
    try:
        listed = None if data is None else read_layout(data)
    except DatasetError:
        return {}  # an incomplete layout, of which --normal-dir names one folder
    return {} if listed is None else listed.groups()


def _found(paths: Sequence[Path], named: Mapping[Path, str]) -> tuple[list[int], str]:
    """Group images by all kinds of evidence; return a key for each image, and the reasons.

    With `named` groups the evidence of file names and times is ignored.
    """
    parent = list(range(len(paths)))

    def root_of(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    reasons = []
    duplicates = _alike(paths)
    for i, j in duplicates:
        parent[root_of(j)] = root_of(i)
    if duplicates:
        reasons.append(f"{len(duplicates)} pair{'s' * (len(duplicates) > 1)} of near-duplicates by content")
    given = [GroupEvidence([named.get(p, p) for p in paths], "the groups that the data set names")] if named else []
    for evidence in given or (by_stem(paths), by_counter(paths), by_time(paths)):
        if evidence is None:
            continue
        first: dict[Hashable, int] = {}
        for index, key in enumerate(evidence.keys):
            parent[root_of(index)] = root_of(first.setdefault(key, index))
        reasons.append(evidence.account)
    return [root_of(index) for index in range(len(paths))], " and ".join(reasons) or _NOTHING


def _alike(paths: Sequence[Path]) -> list[tuple[int, int]]:
    """Find pairs of near-duplicates; a volume is represented by its middle slice."""
    looked_at = []
    for path in paths:
        slices = slices_of(path) if is_volume(path) else [path]
        looked_at.append(slices[len(slices) // 2])
    return near_duplicates(looked_at)


def _numbered(rule: str, paths: Sequence[Path], keys: Sequence[Hashable], reason: str) -> Groups:
    order: dict[Hashable, int] = {}
    numbers = {path: order.setdefault(key, len(order)) for path, key in zip(paths, keys, strict=True)}
    largest = max(Counter(numbers.values()).values(), default=0)
    if len(order) == len(paths):
        return Groups(rule, numbers, f"each of {len(paths)} images is its own group: {reason}")
    account = f"{len(order)} groups of {len(paths)} images: {reason}; largest {largest}"
    if largest > len(paths) / 2:
        account += "; one group holds most images: if that is wrong, say with --group which images belong together"
    return Groups(rule, numbers, account)


def _keys_from_names(paths: Sequence[Path], rule: str) -> list[str]:
    try:
        pattern = re.compile(rule)
    except re.error as error:
        raise SettingsError(
            f"--group {rule!r} is no regular expression ({error}): give one, a .csv file, auto or none"
        ) from None
    keys = []
    for path in paths:
        match = pattern.search(path.name)
        if match is None or (pattern.groups and match[1] is None):
            raise SettingsError(
                f"--group {rule!r} finds no group in the name {path.name}: give a regular expression that every name "
                "matches, such as '^[^_]+' for all before the first _, or a .csv file with the columns path and group"
            )
        keys.append(match[1] if pattern.groups else match[0])
    return keys


def _keys_from_csv(paths: Sequence[Path], file: Path, root: Path | None) -> list[str]:
    by_path, by_name = _read_csv(file)
    keys = []
    for path in paths:
        relative = _name_in(root, path)
        found = {by_path[relative]} if relative in by_path else by_name.get(path.name, set())
        if len(found) != 1:
            what = "does not list" if not found else f"gives {len(found)} groups to the name of"
            raise SettingsError(
                f"{file} {what} the image {relative}: add a row with this path, relative to the data, and its group"
            )
        keys.append(next(iter(found)))
    return keys


def _name_in(root: Path | None, path: Path) -> str:
    """Return a path relative to the root, after resolving both; the file name if it is not below the root."""
    if root is None:
        return path.name
    whole, above = Path(os.path.abspath(path)), os.path.abspath(root.parent if root.is_file() else root)
    return whole.relative_to(above).as_posix() if whole.is_relative_to(above) else path.name


def _read_csv(file: Path) -> tuple[dict[str, str], dict[str, set[str]]]:
    """Read groups by path, and sets of groups by file name, as a name may occur in several folders."""
    try:
        by_path = {row["path"]: row["group"] for row in read_csv(file, ("path", "group"))}
    except DatasetError as error:
        raise SettingsError(f"--group {error}: name a file with the columns path and group") from error
    if not all(by_path.values()):
        raise SettingsError(f"{file} gives no group to {next(path for path, group in by_path.items() if not group)}")
    by_name: dict[str, set[str]] = {}
    for path, group in by_path.items():
        by_name.setdefault(Path(path).name, set()).add(group)
    return by_path, by_name
