"""Naming of kinds of rejects: from folders of examples, or by renaming in the model; makes a new version of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from edgead.adapt.teach.run import new_version
from edgead.artifact.folder import Artifact, write_manifest
from edgead.artifact.kinds import DESCRIPTOR, EXAMPLES, MAX_EXAMPLES, Kinds
from edgead.artifact.training_hashes import content_sha256
from edgead.calibration.group_conformal import dense
from edgead.dataset.folders import GOOD, StageProgress, no_progress
from edgead.dataset.groups import AUTO, group_images
from edgead.detector import Detector
from edgead.detector.known_kinds import bank_sha256, distances_to_others, is_stale, residual_scale, stale_message
from edgead.errors import SettingsError, tell_invalid
from edgead.images.files import is_image_path
from edgead.kernels import NearestPatches
from edgead.unlabelled.sorting.describe import ImageProblem, describe_images
from edgead.unlabelled.sorting.sort import default_name

UNKNOWN_LEVEL = 0.05
# Tolerance for equal descriptors: those of one image on two runtimes differ by less, of two images by far more.
_SAME = 1e-3
_FOLDER = re.compile(r"kind-0*([1-9]\d*)")


@dataclass(frozen=True, slots=True)
class KindExamples:
    """Example rejects whose kind is known.

    `kinds`: name of the kind of each example.
    `descriptors` (ndarray of shape (m, n), float32): see `edgead.heads.contract.Describer`.
    `groups`: number of the part that each example shows.
    """

    kinds: Sequence[str]
    descriptors: np.ndarray
    groups: Sequence[int]


def keep_kinds(
    artifact: Artifact,
    examples: KindExamples,
    unknown_level: float = UNKNOWN_LEVEL,
    *,
    finish: Callable[[Path], object] = lambda draft: None,
) -> Artifact:
    """Write kinds into a model, replacing the model's kinds; they are numbered by first appearance.

    `finish` is called with the new version before the version takes the model's place.

    Raises SettingsError: a name or the level is invalid, there are too many examples, all show one part, or the model
        was changed since it was opened.
    """
    if len(examples.kinds) > MAX_EXAMPLES:
        raise SettingsError(
            f"{len(examples.kinds)} examples are more than the {MAX_EXAMPLES} that a reject can be compared with in "
            "time: leave some out of the largest kinds"
        )
    if len(set(examples.groups)) < 2:
        raise SettingsError("all examples show one part: how far others may be needs those of two parts at least")
    names, scale = list(dict.fromkeys(examples.kinds)), residual_scale(examples.descriptors)
    kinds = _checked(
        names=names,
        labels=[names.index(kind) for kind in examples.kinds],
        groups=dense(examples.groups),
        distances=distances_to_others(examples.descriptors, scale, examples.groups),
        descriptor=DESCRIPTOR,
        residual_scale=scale,
        bank_sha256=bank_sha256(artifact.manifest),
        unknown_level=unknown_level,
    )
    return _write(artifact, kinds, examples.descriptors, finish)


def kept_examples(artifact: Artifact) -> KindExamples:
    """Read the examples of the kinds that a model knows.

    Raises SettingsError: the kinds are stale; says how to name them again.
    Raises ArtifactError: the model knows no kinds, or the file of examples is damaged.
    """
    descriptors, kinds = artifact.kinds_examples(), artifact.manifest.kinds
    assert kinds is not None  # they exist if there are examples
    if is_stale(artifact.manifest):
        raise SettingsError(stale_message(artifact))
    return KindExamples([kinds.names[label] for label in kinds.labels], descriptors, kinds.groups)


def renamed(examples: KindExamples, names: Mapping[str, str]) -> KindExamples:
    """Rename kinds; kinds that get the same name are merged.

    Raises SettingsError: no example is of a kind that `names` renames.
    """
    missing = [name for name in names if name not in examples.kinds]
    if missing:
        there_are = ", ".join(dict.fromkeys(examples.kinds))
        raise SettingsError(f"there is no kind {', '.join(map(repr, missing))}: there are {there_are}")
    return KindExamples([names.get(kind, kind) for kind in examples.kinds], examples.descriptors, examples.groups)


def _checked(**values: object) -> Kinds:
    try:
        return Kinds.model_validate(values)
    except ValidationError as error:
        raise SettingsError(f"kinds: {tell_invalid(error.errors()[:1], whole='names')}") from None


def _write(artifact: Artifact, kinds: Kinds, descriptors: np.ndarray, finish: Callable[[Path], object]) -> Artifact:
    path = artifact.path
    artifact.check_unchanged()
    with new_version(path) as draft:
        file = draft / EXAMPLES
        file.parent.mkdir(exist_ok=True)
        np.save(file, np.ascontiguousarray(descriptors, np.float32), allow_pickle=False)
        write_manifest(draft, artifact.manifest.model_copy(update={"kinds": kinds}))
        finish(draft)
        artifact.check_unchanged()
    return Artifact.load(Path(path))


@dataclass(frozen=True, slots=True)
class NamePlan:
    """Settings for naming kinds.

    Attributes
    ----------
    names : mapping of str to str
        New names by folder or by earlier name; kinds with equal names are merged.
    examples : Path, optional
        Folder that holds a folder of rejects for each kind. Without it the kinds of the model are renamed.
    replace : bool
        Remove the kinds that the model knows; otherwise examples are added to them.
    group : str
        Rule by which examples show the same part, see `edgead.dataset.groups.group_images`.
    unknown_level : float, optional
        Largest p-value at which a reject is of an unknown kind; by default the model's level, or 0.05.
    """

    names: Mapping[str, str]
    examples: Path | None = None
    replace: bool = False
    group: str = AUTO
    unknown_level: float | None = None


@dataclass(frozen=True, slots=True)
class Named:
    """Result of naming: the model with its kinds, and the examples left out because they are ok or cannot be judged."""

    artifact: Artifact
    ok: list[Path]
    problems: list[ImageProblem]

    def to_dict(self) -> dict[str, Any]:
        kinds = self.artifact.manifest.kinds
        assert kinds is not None
        parts = {name: set() for name in kinds.names}  # type: dict[str, set[int]]
        for label, group in zip(kinds.labels, kinds.groups, strict=True):
            parts[kinds.names[label]].add(group)
        return {
            "model": str(self.artifact.path),
            "kinds": [
                {"kind": name, "number": number, "examples": count, "parts": len(parts[name])}
                for number, (name, count) in enumerate(kinds.counts().items(), 1)
            ],
            "unknown_level": kinds.unknown_level,
            "warnings": self.warnings(),
            "problems": [{"image": str(one.path), "problem": one.text} for one in self.problems],
        }

    def warnings(self) -> list[str]:
        """List remarks for the user on these kinds."""
        kinds = self.artifact.manifest.kinds
        assert kinds is not None
        found = []
        least = 1 / (len(set(kinds.groups)) + 1)
        if least > kinds.unknown_level:
            needed = int(np.ceil(1 / kinds.unknown_level - 1 - 1e-9)) if kinds.unknown_level else 0
            more = f"{needed} known parts are needed" if needed else "the level is 0"
            found.append(f"no reject will be of an unknown kind: its p-value is {least:.2g} at least; {more}")
        if self.ok:
            found.append(
                f"{len(self.ok)} examples are judged ok and were left out, {self.ok[0].name} first: only what is "
                "rejected or sent to review has a kind"
            )
        return found


def name_kinds(path: Path, plan: NamePlan, *, progress: StageProgress = no_progress) -> Named:
    """Name the kinds of rejects in a model; its previous version is kept.

    Raises SettingsError: there are no examples, an example has two kinds, an old name is unknown, a new name is
        invalid, kinds are stale, or the model cannot describe images.
    Raises ArtifactError: the model knows no kinds and there are no examples, or it is damaged.
    """
    artifact = Artifact.load(path)
    kinds = artifact.manifest.kinds
    level = plan.unknown_level
    if level is None:
        level = kinds.unknown_level if kinds else UNKNOWN_LEVEL
    names = {shown_name(old): new for old, new in plan.names.items()}
    if plan.examples is None:
        kept = keep_kinds(artifact, renamed(kept_examples(artifact), names), level)
        return Named(kept, [], [])
    found, ok, problems = _learn(artifact, plan, progress)
    known = None if plan.replace or kinds is None else kept_examples(artifact)
    together = renamed(found if known is None else joined(known, found), names)
    return Named(keep_kinds(artifact, together, level), ok, problems)


def shown_name(folder: str) -> str:
    """Return the default name of a folder's kind: "kind 1" for kind-01, otherwise the folder's name."""
    match = _FOLDER.fullmatch(folder)
    return default_name(int(match[1]) - 1) if match else folder


def _learn(
    artifact: Artifact, plan: NamePlan, progress: StageProgress
) -> tuple[KindExamples, list[Path], list[ImageProblem]]:
    assert plan.examples is not None
    kind_of = _find_examples(plan.examples)
    with Detector(artifact) as detector:
        judged, problems = describe_images(detector, list(kind_of), partial(progress, "describe examples"))
    rejects = [one for one in judged if one.decision != "ok"]
    ok = [one.path for one in judged if one.decision == "ok"]
    if not rejects:
        raise SettingsError(
            f"none of the {len(judged)} images in {plan.examples} is rejected or sent to review by {artifact.path}: "
            "only such images have a kind"
        )
    groups = group_images([one.path for one in rejects], plan.group, plan.examples)
    descriptors = np.array([one.descriptor for one in rejects])
    kinds = [kind_of[one.path] for one in rejects]
    return KindExamples(kinds, descriptors, groups.of(one.path for one in rejects)), ok, problems


def _find_examples(folder: Path) -> dict[Path, str]:
    """Find images and their kinds; an image with two kinds is refused."""
    if not folder.is_dir():
        raise SettingsError(f"{folder} is no folder: name one that holds a folder of rejects for each kind")
    kind_of: dict[Path, str] = {}
    seen: dict[str, Path] = {}
    for kind in sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
        if kind.name == GOOD:  # in a test set of MVTec layout: a good part that is rejected has no kind
            continue
        for path in sorted(path for path in kind.iterdir() if is_image_path(path) and path.is_file()):
            twin = seen.setdefault(content_sha256(path), path)
            if twin.parent != path.parent:
                raise SettingsError(
                    f"{path} and {twin} are the same image: an example has one kind; remove one of them"
                )
            if twin == path:
                kind_of[path] = shown_name(kind.name)
    if not kind_of:
        raise SettingsError(
            f"{folder} holds no examples: put the rejects of each kind into a folder of its name, such as "
            f"{folder / 'scratch' / '1.png'}"
        )
    return kind_of


def joined(known: KindExamples, new: KindExamples) -> KindExamples:
    """Join known and new examples; an example that is in both gets its new kind."""
    distances, _ = NearestPatches(new.descriptors).search(known.descriptors)
    kept = np.flatnonzero(distances[:, 0] > _SAME).tolist()
    earlier = [("earlier", known.groups[i]) for i in kept]
    return replace(
        new,
        kinds=[*(known.kinds[i] for i in kept), *new.kinds],
        descriptors=np.concatenate([known.descriptors[kept], new.descriptors]),
        groups=dense([*earlier, *(("new", group) for group in new.groups)]),
    )


def read_names(pairs: Sequence[str]) -> dict[str, str]:
    """Parse OLD=NEW pairs.

    Raises SettingsError: a text is no pair, or an old name occurs twice.
    """
    names: dict[str, str] = {}
    for text in pairs:
        old, equals, new = (part.strip() for part in text.partition("="))
        if not (old and equals and new):
            raise SettingsError(f"{text!r} is no name of a kind: write kind-01=scratch")
        if twin := next((other for other in names if shown_name(other) == shown_name(old)), None):
            raise SettingsError(f"{old} gets two names: {names[twin]} and {new}")
        names[old] = new
    return names
