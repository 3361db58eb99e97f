"""What marked defects are worth: `edgead teach --bad`, on parts of other tiles and boards, kind by kind.

    python -m benchmarks known_defects PANEL_FOLDER --tiles MAGNETIC_TILES -o WORK --marked 5 --draws 5

Each draw marks so many defects of a kind, of as many tiles (or boards) as there are, but of half of them at most, with
and without their masks. What is judged is of other tiles. The limit comes from all good images that were learnt, each
scored without its fold.

`deeppcb` alone would mislead: its good boards are drawings and its defective ones photographs of the same, so that
whatever learns from marked ones learns photograph from drawing. `boards` is made of its 120 photographs: their boxes,
filled from the drawings, are the good boards.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from benchmarks.panel_sets import TILES, PanelSet, add_panel_arguments, find_sets
from benchmarks.panel_settings import build_settings
from edgead import metrics
from edgead.adapt.memory_bank.folds import deal_folds
from edgead.adapt.patch_features import each_grid
from edgead.adapt.teach.defects import Defects, fit_join, learn_defects
from edgead.artifact.folder import Artifact
from edgead.calibration.conformal import conformal_threshold
from edgead.dataset.folders import find_good_images, find_test_images
from edgead.dataset.groups import group_images
from edgead.dataset.images import Images
from edgead.dataset.masks import find_mask
from edgead.heads.known_defects import KnownScorer
from edgead.heads.nearest import NearestHead, NearestScorer, in_metric, without_fold

BOARDS, TRAINED_ON, GROWN = "boards", 60, 9
SETS = (TILES, BOARDS, "deeppcb")
_BOARD_DIGITS = 5  # of a name say which board it is a piece of


def main(arguments: list[str]) -> None:
    """Measure and print a row as it comes, a kind and a way of marking each."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks known_defects",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_panel_arguments(parser, work="folder for models, features and what is laid out", sets=False)
    parser.add_argument("--sets", default=",".join(SETS), metavar="NAME,...")
    parser.add_argument("--marked", default="5", metavar="N,...", help="marked defects of a kind")
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--together", action="store_true", help="mark all kinds at once, in a folder each")
    options = parser.parse_args(arguments)
    print("| set, kind | marked | masks | judged | passed | AUROC | good rejected | others: passed | others: AUROC |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in options.sets.split(","):
        if name == BOARDS:
            data = PanelSet(BOARDS, lay_out_boards(options.panel / "deeppcb", options.output / "data" / BOARDS), "none")
        else:
            (data,) = find_sets(options.panel, options.output, tiles=options.tiles, only=[name])
        seen = see(data, options.output)
        for count in map(int, options.marked.split(",")):
            for masked in (True, False):
                judge(seen, count, options.draws, masked, together=options.together)


def lay_out_boards(source: Path, folder: Path) -> Path:
    """Photographs of boards, good where their boxes are filled from the drawing; half of them to train on."""
    if folder.is_dir():
        return folder
    names = sorted(path.name[:8] for path in (source / "test" / "defective").iterdir())
    for rank, pick in enumerate(np.random.default_rng(5).permutation(len(names)).tolist()):
        name = names[pick]
        photograph = cv2.imread(str(source / f"test/defective/{name}_test.png"))
        drawing = cv2.imread(str(source / f"test/good/{name}_temp.png"))
        mask = cv2.imread(str(source / f"ground_truth/defective/{name}_test_mask.png"), cv2.IMREAD_GRAYSCALE)
        grown = cv2.dilate((mask > 127).astype(np.uint8), np.ones((GROWN, GROWN), np.uint8))
        made = {
            ("test" if rank >= TRAINED_ON else "train") + "/good": np.where(grown[..., None] > 0, drawing, photograph)
        }
        if rank >= TRAINED_ON:
            made |= {"test/defective": photograph, "ground_truth/defective": mask}
        for where, image in made.items():
            (folder / where).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / where / f"{name}_test{'_mask' * (image is mask)}.png"), image)
    return folder


@dataclass(frozen=True)
class Seen:
    """A trained model and what it sees: features, and scores without known defects, of each without its fold.

    `fold` is -1 for test images, `part` the tile or the board of each, `kind` is "good" for good ones.
    """

    name: str
    artifact: Artifact
    paths: list[Path]
    kind: np.ndarray
    part: np.ndarray
    fold: np.ndarray
    features: np.ndarray
    unknown: np.ndarray

    @property
    def learnt(self) -> np.ndarray:
        return np.flatnonzero(self.fold >= 0)

    def head(self) -> NearestHead:
        head = self.artifact.manifest.head
        assert isinstance(head, NearestHead)
        return head


def see(data: PanelSet, work: Path) -> Seen:
    """Train, and look at every image once; what is in the folder for work already is taken from there."""
    from edgead.adapt.training.from_folder import train_from_folder
    from edgead.adapt.training.good_images import GoodImages

    model, cache = work / "models" / data.name, work / "features" / f"{data.name}.npz"
    if not model.is_dir():
        (setting,) = build_settings(["default"])
        train_from_folder(GoodImages(data.folder, group=data.group), model, setting.of(data))
    artifact = Artifact.load(model)
    good, tests = find_good_images(data.folder), find_test_images(data.folder)
    groups = group_images(good, data.group, data.folder).of(good)
    paths = [*good, *(one.path for one in tests)]
    fold = np.concatenate([deal_folds(groups, 0), np.full(len(tests), -1)])
    kind = np.array(["good"] * len(good) + [one.defect for one in tests])
    if data.name == TILES:
        part = np.array(group_images(paths, data.group, data.folder).of(paths))
    else:
        boards = sorted({path.name[:_BOARD_DIGITS] for path in paths})
        part = np.array([boards.index(path.name[:_BOARD_DIGITS]) for path in paths])
        part[: len(good)] = groups
    if not cache.is_file():
        cache.parent.mkdir(parents=True, exist_ok=True)
        features, unknown = look(artifact, paths, fold)
        np.savez(cache, features=features, unknown=unknown)
    held = np.load(cache)
    return Seen(data.name, artifact, paths, kind, part, fold, held["features"], held["unknown"])


def look(artifact: Artifact, paths: Sequence[Path], fold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    head, arrays, spec = artifact.manifest.head, artifact.head_arrays(), artifact.manifest.preprocessing
    assert isinstance(head, NearestHead)
    scorers: dict[int, tuple[NearestScorer, np.ndarray | None]] = {}
    features, unknown = [], []
    for own, grid in zip(fold.tolist(), each_grid(artifact, Images(paths, spec)), strict=True):
        if own not in scorers:
            bank, metric = (arrays["memory_bank"], None) if own < 0 else without_fold(arrays, own)
            scorer = NearestScorer(head, grid.shape[:2], spec.image_size, bank)
            scorers[own] = scorer, metric
        scorer, metric = scorers[own]
        unknown.append(scorer.score({"features": np.ascontiguousarray(in_metric(grid, metric))[None]}).image_score)
        features.append(grid.astype(np.float16))
    return np.stack(features), np.array(unknown)


def known_scores(seen: Seen, learnt: Sequence[Defects]) -> list[np.ndarray]:
    """Scores of all images by known defects alone, of each draw (images, kinds)."""
    arrays, head, grid = seen.artifact.head_arrays(), seen.head(), seen.features.shape[1:3]
    scores: list[list[np.ndarray]] = [[np.zeros(0)] * len(seen.paths) for _ in learnt]
    for own in np.unique(seen.fold).tolist():
        bank, metric = (arrays["memory_bank"], None) if own < 0 else without_fold(arrays, own)
        scorers = [
            KnownScorer(head, grid, bank, in_metric(one.patches, metric), one.arrays["known_defect_kinds"])
            for one in learnt
        ]
        for number in np.flatnonzero(seen.fold == own).tolist():
            features = np.ascontiguousarray(in_metric(seen.features[number].astype(np.float32), metric))
            for of_draw, one in zip(scores, scorers, strict=True):
                of_draw[number] = one.image_scores(one.patch_scores(features))
    return [np.array(of_draw) for of_draw in scores]


def mark(seen: Seen, kind: str, count: int, seed: int) -> tuple[list[int], set[int]]:
    """Images to mark, and the tiles that they are of: as many as there are, but at most half of the kind's."""
    rng = np.random.default_rng([seed, sum(map(ord, kind))])
    of_kind = np.flatnonzero(seen.kind == kind)
    parts = rng.permutation(np.unique(seen.part[of_kind]))
    used = parts[: min(count, max(1, len(parts) // 2))]
    first = [int(rng.choice(of_kind[seen.part[of_kind] == part])) for part in used]
    more = [int(one) for one in rng.permutation(of_kind[np.isin(seen.part[of_kind], used)]) if one not in first]
    return [*first, *more][:count], set(used.tolist())


def learn(seen: Seen, marked: Sequence[int], masked: bool) -> Defects:
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number in marked:
            path, kind = seen.paths[number].absolute(), str(seen.kind[number])
            link = Path(folder) / "test" / kind / path.name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
            paths.append(link)
            mask = find_mask(path.parents[2] / "ground_truth" / kind, path)
            if masked and mask is not None:
                drawn = Path(folder) / "ground_truth" / kind / mask.name
                drawn.parent.mkdir(parents=True, exist_ok=True)
                drawn.symlink_to(mask)
        return learn_defects(seen.artifact, paths)


def judge(seen: Seen, count: int, draws: int, masked: bool, *, together: bool = False) -> None:
    """Print a row for each kind."""
    kinds = [str(kind) for kind in np.unique(seen.kind) if kind != "good"]
    limits = seen.artifact.graph("fp32").calibration
    assert limits is not None
    learnt, rate = seen.learnt, limits.false_reject_rate
    groups = seen.part[learnt].tolist()
    before = conformal_threshold(seen.unknown[learnt], rate, groups)
    plans = []
    for seed in range(draws):
        of_kinds = {kind: mark(seen, kind, count, seed) for kind in kinds}
        if together:
            plans.append(
                (
                    kinds,
                    [one for marked, _ in of_kinds.values() for one in marked],
                    set().union(*(used for _, used in of_kinds.values())),
                )
            )
        else:
            plans += [([kind], *of_kinds[kind]) for kind in kinds]
    known = known_scores(seen, [learn(seen, marked, masked) for _, marked, _ in plans])
    rows: dict[str, list[list[float]]] = {kind: [] for kind in kinds}
    for (of_kinds_marked, _, used), scores in zip(plans, known, strict=True):
        options = fit_join(seen.unknown[learnt], scores[learnt], rate, groups)
        joined = np.array([options.joined(*both) for both in zip(seen.unknown, scores, strict=True)])
        after = conformal_threshold(joined[learnt], rate, groups)
        tested = (seen.fold < 0) & ~np.isin(seen.part, sorted(used))
        good = np.flatnonzero(tested & (seen.kind == "good"))

        def outcome(kind: str, tested=tested, good=good, joined=joined, after=after) -> list[float]:  # type: ignore[no-untyped-def]
            bad = np.flatnonzero(tested & (seen.kind == kind))
            truth, both = np.repeat([False, True], [len(good), len(bad)]), np.concatenate([good, bad])
            aurocs = [metrics.auroc(truth, values[both]) for values in (seen.unknown, joined)]
            return [
                len(bad),
                float((seen.unknown[bad] <= before).mean()),
                float((joined[bad] <= after).mean()),
                *aurocs,
            ]

        rejected = [float((seen.unknown[good] > before).mean()), float((joined[good] > after).mean())]
        others = [outcome(kind) for kind in kinds if kind not in of_kinds_marked]
        worst = [
            max((one[2] - one[1] for one in others), default=0.0),
            min((one[4] - one[3] for one in others), default=0.0),
        ]
        for kind in of_kinds_marked:
            rows[kind].append([*outcome(kind), *rejected, *worst])
    for kind, found in rows.items():
        mean, table = np.mean(found, axis=0), np.array(found)
        print(
            f"| {seen.name}, {kind} | {count} | {'yes' if masked else 'no'} | {mean[0]:.0f} | "
            f"{100 * mean[1]:.1f} -> {100 * mean[2]:.1f} % | {mean[3]:.3f} -> {mean[4]:.3f} | "
            f"{100 * mean[5]:.1f} -> {100 * mean[6]:.1f} % | {100 * table[:, 7].max():+.1f} % | "
            f"{table[:, 8].min():+.4f} |",
            flush=True,
        )
