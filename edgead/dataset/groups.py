"""Groups of images: a part taken several times, a batch, a light. Hold-out keeps a group on one side."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgead.calibration.plan import GROUPS, IMAGES
from edgead.dataset.made_sets import refuse_made
from edgead.dataset.name_groups import by_counter, by_stem, by_time
from edgead.dataset.near_duplicates import near_duplicates
from edgead.errors import SettingsError

AUTO, NONE, FOLDERS = "auto", "none", "folders"

_NOTHING = "no near-duplicates, no clear names or times"


@dataclass(frozen=True, slots=True)
class Groups:
    """The group of each image.

    Attributes
    ----------
    rule : str
        What was asked for; see `group_images`.
    numbers : mapping of Path to int
        In the order of the images; groups are numbered as they first appear.
    account : str
        How many groups there are, and what was taken as evidence.
    """

    rule: str
    numbers: Mapping[Path, int]
    account: str

    @property
    def count(self) -> int:
        return len(set(self.numbers.values()))

    @property
    def are_single(self) -> bool:
        """Is each image a group of its own?"""
        return self.count == len(self.numbers)

    @property
    def unit(self) -> str:
        """What is held out and counted, as `edgead.calibration.plan` calls it in its messages."""
        return IMAGES if self.are_single else GROUPS

    def of(self, paths: Iterable[Path]) -> list[int]:
        """Group numbers of some of the images."""
        return [self.numbers[path] for path in paths]

    def facts(self, learnt: Sequence[Path], held_out: Sequence[Path]) -> dict[str, object]:
        """What the manifest records of them."""
        return {
            "rule": self.rule,
            "account": self.account,
            "groups": self.count,
            "learnt_groups": len(set(self.of(learnt))),
            "held_out_groups": len(set(self.of(held_out))),
        }


def group_images(paths: Sequence[Path], rule: str = AUTO, root: Path | None = None) -> Groups:
    """Find out which images belong together.

    Parameters
    ----------
    paths : sequence of Path
        Readable images.
    rule : str
        "auto": near-duplicates by content, names and capture times, where they are clear. "folders": the same within
        each folder, where folders are products: images of one product are alike beside those of another. "none": each
        image is its own group. A path that ends in .csv: a file with the columns path and group, where a path is
        relative to `root` or a file name. Anything else: a regular expression that is searched in the file name, whose
        first group, or else the whole match, is the group.
    root : Path, optional
        Folder of the data.

    Raises
    ------
    SettingsError
        A CSV file that is missing, lacks a column or an image, a regular expression that is none or does not match.
    DatasetError
        Images lie in a folder of made defects.
    """
    refuse_made(paths)
    if rule == NONE:
        return _numbered(rule, paths, list(range(len(paths))), "as asked")
    if rule == AUTO:
        return _numbered(rule, paths, *_found(paths))
    if rule == FOLDERS:
        return _numbered(rule, paths, *_found_apart(paths))
    if rule.lower().endswith(".csv"):
        return _numbered(rule, paths, _keys_from_csv(paths, Path(rule), root), f"from {Path(rule).name}")
    return _numbered(rule, paths, _keys_from_names(paths, rule), f"from names by {rule}")


def leaks(groups: Groups, learnt: Sequence[Path], held_out: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Pairs of a held-out image and one among those learnt that show the same thing."""
    if groups.rule in (AUTO, FOLDERS) or not learnt or not held_out:
        return []  # near-duplicates are in one group then
    both, first = [*learnt, *held_out], len(learnt)
    return [(both[j], both[i]) for i, j in near_duplicates(both) if i < first <= j]


def leak_warning(pairs: Sequence[tuple[Path, Path]], held_out: int) -> str:
    """Say in words what `leaks` found; empty for nothing."""
    if not pairs:
        return ""
    images = len({kept for kept, _ in pairs})
    kept, learnt = pairs[0]
    return (
        f"{images} of {held_out} held-out images look like learnt ones, {kept.name} like {learnt.name} first: where "
        "they show the same part, more parts are rejected than the rate says; name them as one group with --group"
    )


def _found_apart(paths: Sequence[Path]) -> tuple[list[Hashable], str]:
    """Join images of the same folder."""
    inside: dict[Path, list[Path]] = {}
    for path in paths:
        inside.setdefault(path.parent, []).append(path)
    keys: dict[Path, Hashable] = {}
    accounts = {}
    for folder, own in inside.items():
        found, accounts[folder] = _found(own)
        keys |= {path: (folder, key) for path, key in zip(own, found, strict=True)}
    reasons = [f"{folder}: {account}" for folder, account in accounts.items() if account != _NOTHING]
    return [keys[path] for path in paths], f"{len(inside)} folders apart, {'; '.join(reasons) or _NOTHING}"


def _found(paths: Sequence[Path]) -> tuple[list[int], str]:
    """Join images by every kind of evidence that there is; gives a key for each, and the reasons."""
    parent = list(range(len(paths)))

    def root_of(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    reasons = []
    duplicates = near_duplicates(paths)
    for i, j in duplicates:
        parent[root_of(j)] = root_of(i)
    if duplicates:
        reasons.append(f"{len(duplicates)} pairs of near-duplicates by content")
    for evidence in (by_stem(paths), by_counter(paths), by_time(paths)):
        if evidence is None:
            continue
        first: dict[Hashable, int] = {}
        for index, key in enumerate(evidence.keys):
            parent[root_of(index)] = root_of(first.setdefault(key, index))
        reasons.append(evidence.account)
    return [root_of(index) for index in range(len(paths))], " and ".join(reasons) or _NOTHING


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
    """Path from the root on, in whatever way both are named; the file name of what is not below it."""
    if root is None:
        return path.name
    whole, above = Path(os.path.abspath(path)), os.path.abspath(root)
    return whole.relative_to(above).as_posix() if whole.is_relative_to(above) else path.name


def _read_csv(file: Path) -> tuple[dict[str, str], dict[str, set[str]]]:
    """Groups by path, and by file name; a name may stand in several folders."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            rows = csv.DictReader(lines)
            if not {"path", "group"} <= set(rows.fieldnames or ()):
                found = ", ".join(rows.fieldnames or ()) or "nothing"
                raise SettingsError(f"{file} must have the columns path and group, found {found}")
            by_path = {row["path"]: row["group"] for row in rows}
    except OSError as error:
        raise SettingsError(f"--group {file} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise SettingsError(f"--group {file} is no CSV file in UTF-8: {error}") from error
    if not all(by_path.values()):
        raise SettingsError(f"{file} gives no group to {next(path for path, group in by_path.items() if not group)}")
    by_name: dict[str, set[str]] = {}
    for path, group in by_path.items():
        by_name.setdefault(Path(path).name, set()).add(group)
    return by_path, by_name
