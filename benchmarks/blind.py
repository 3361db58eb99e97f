"""Blind limits: are images of another product refused by `edgead calibrate`, and honest ones of the same taken?

    python -m benchmarks blind PANEL_FOLDER --tiles MAGNETIC_TILES -o WORK

trains a model of each set with the preset `fast`, once, and measures each pair of model and image once: both stay in
WORK, and all else is arithmetic. The factors of `edgead.calibration.blind` come from simulated scores.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.panel_sets import JUDGED, PanelSet, add_panel_arguments, find_sets
from edgead.adapt.finalize import GoodScores
from edgead.adapt.methods import find_preset
from edgead.artifact.folder import Artifact
from edgead.artifact.manifest import Calibration
from edgead.calibration.blind import MAX_REJECTED, doubts, rise, shift
from edgead.calibration.conformal import images_needed
from edgead.calibration.outliers import stand_apart
from edgead.calibration.plan import OFFERED_RATES
from edgead.dataset.folders import find_good_images
from edgead.dataset.groups import group_images
from edgead.detector import Detector
from edgead.images.files import list_images, load_image
from edgead.images.likeness import Look, likeness_warnings, look_of

# Images of each other set, and defective ones of the own.
MEASURED = 40
SIZES = (4, 10, MEASURED)
DRAWS, HONEST = 20, 200
MIN_HONEST = 10
DEFECTIVE_SHARE = 0.3
OWN_GOOD, OWN_BAD = "good", "bad"


@dataclass(frozen=True, slots=True)
class Images:
    """What a model says of some images, a row each: score, maximum and median of the map, height, width, group."""

    rows: np.ndarray

    def take(self, indices: np.ndarray) -> Images:
        return replace(self, rows=self.rows[indices])

    def draw(self, rng: np.random.Generator, count: int) -> Images:
        return self.take(rng.permutation(len(self.rows))[:count])

    def draw_groups(self, rng: np.random.Generator, count: int) -> Images:
        """Take at least so many, group by group, and no fewer groups than any rate that is offered needs."""
        found = [np.flatnonzero(self.groups == group) for group in rng.permutation(np.unique(self.groups))]
        enough = int(np.searchsorted(np.cumsum([len(group) for group in found]), count)) + 1
        return self.take(np.concatenate(found[: max(enough, images_needed(OFFERED_RATES[-1]))]))

    def with_some(self, others: Images) -> Images:
        return replace(self, rows=np.concatenate([self.rows, others.rows]))

    @property
    def scores(self) -> np.ndarray:
        return self.rows[:, 0]

    @property
    def groups(self) -> np.ndarray:
        return self.rows[:, 5].astype(int)

    @property
    def looks(self) -> list[Look]:
        no_colour = np.zeros((8, 8))
        return [Look(height, width, no_colour) for height, width in self.rows[:, 3:5]]


@dataclass(frozen=True, slots=True)
class Model:
    """What the limits of a model are made from, and what its golden images look like."""

    limits: Calibration
    golden: Sequence[Look]
    stretched: bool

    @classmethod
    def load(cls, path: Path) -> Model:
        artifact = Artifact.load(path)
        graph = artifact.graph("fp32")
        assert graph.calibration is not None
        golden = [look_of(artifact.image(one.image)) for one in graph.golden]
        return cls(graph.calibration, golden, artifact.manifest.preprocessing.fill == "stretch")

    def offer(self, images: Images) -> Offer:
        """Calibrate for the model's own rate, or the strictest that the images support."""
        groups = images.groups.tolist() if len(np.unique(images.groups)) < len(images.rows) else []
        units = len(np.unique(images.groups))
        rate = self.limits.false_reject_rate
        rate = rate if images_needed(rate) <= units else 1 / (units + 1)
        good = GoodScores(*images.rows[:, :3].T.tolist())
        after = good.calibrate(rate, None, groups=groups)
        looks = {str(number): look for number, look in enumerate(images.looks)}
        unlike = likeness_warnings(looks, self.golden, "golden images", stretched=self.stretched, share=MAX_REJECTED)
        found = doubts(self.limits, after.reject, good.scores, good.medians, groups, unlike=unlike)
        return Offer(found, shift(self.limits, good.scores, groups), rise(self.limits, after.reject), bool(unlike))


@dataclass(frozen=True, slots=True)
class Offer:
    """What is said of images that are offered, and how far they and their limit lie above the usual."""

    doubts: list[str]
    shift: float
    rise: float
    unlike: bool


def main(arguments: list[str]) -> None:
    options = _parser().parse_args(arguments)
    sets = find_sets(options.panel, options.output, tiles=options.tiles, only=JUDGED)
    measured = {data.name: measure(data, sets, options.output) for data in sets}
    models = {data.name: Model.load(options.output / "models" / data.name) for data in sets}
    print("\n".join([*foreign_table(models, measured), "", *own_table(models, measured)]))


def foreign_table(models: dict[str, Model], measured: dict[str, dict[str, Images]]) -> list[str]:
    """One row for each ordered pair of sets: of how many random choices each size is doubted, and the least numbers."""
    sizes = " | ".join(f"{size} images" for size in SIZES)
    lines = [
        f"| model | images of | {sizes} | least shift | least rise | unlike golden images |",
        "|---" * (len(SIZES) + 5) + "|",
    ]
    rng = np.random.default_rng(0)
    every = []
    for name, model in models.items():
        for other in sorted(models.keys() - {name}):
            pile, cells, offers = measured[name][other], [], []
            for size in SIZES:
                found = [model.offer(pile.draw(rng, size)) for _ in range(DRAWS)]
                cells.append(f"{sum(bool(one.doubts) for one in found)} of {DRAWS}")
                offers += found
            every += offers
            least = f"{min(one.shift for one in offers):.1f} | {min(one.rise for one in offers):.1f}"
            unlike = f"{100 * np.mean([one.unlike for one in offers]):.0f} %"
            lines.append(f"| {name} | {other} | {' | '.join(cells)} | {least} | {unlike} |")
    taken = sum(not one.doubts for one in every)
    return [*lines, "", f"{taken} of {len(every)} taken; least shift {min(one.shift for one in every):.1f}"]


def own_table(models: dict[str, Model], measured: dict[str, dict[str, Images]]) -> list[str]:
    """One row for each set: its good test images in random choices, and its defects, alone and among good ones."""
    lines = [
        f"| model | honest, {HONEST} choices | largest shift | largest rise | {MIN_HONEST} defects "
        f"| {DEFECTIVE_SHARE:.0%} of {MEASURED} defective | of them by what stands apart |",
        "|---" * 7 + "|",
    ]
    rng = np.random.default_rng(1)
    every: list[Offer] = []
    for name, model in models.items():
        good, bad = measured[name][OWN_GOOD], measured[name][OWN_BAD]
        sizes = rng.integers(MIN_HONEST, len(good.rows) + 1, HONEST)
        honest = [model.offer(good.draw_groups(rng, size)) for size in sizes]
        every += honest
        defects = [model.offer(bad.draw(rng, MIN_HONEST)) for _ in range(DRAWS)]
        some = round(DEFECTIVE_SHARE * MEASURED)
        piles = [good.draw(rng, MEASURED - some).with_some(bad.draw(rng, some)) for _ in range(DRAWS)]
        apart = [bool(stand_apart(pile.scores)) for pile in piles]
        doubted = [alone or bool(model.offer(pile).doubts) for alone, pile in zip(apart, piles, strict=True)]
        lines.append(
            f"| {name} | {sum(bool(one.doubts) for one in honest)} doubted | {max(one.shift for one in honest):.1f} "
            f"| {max(one.rise for one in honest):.1f} | {sum(bool(one.doubts) for one in defects)} of {DRAWS} "
            f"| {sum(doubted)} of {DRAWS} | {sum(apart)} |"
        )
    refused = sum(bool(one.doubts) for one in every)
    share = f"{100 * refused / len(every):.2g} % of {len(every)} honest ones doubted"
    return [*lines, "", f"{share}; largest shift {max(one.shift for one in every):.1f}"]


def measure(data: PanelSet, sets: list[PanelSet], work: Path) -> dict[str, Images]:
    """Measure good and bad images of a set, and good ones of the others, with its model; what was measured is read."""
    file = work / "measured" / f"{data.name}.npz"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        test = list_images(data.folder / "test", below=True)
        images = {
            OWN_GOOD: (data, [path for path in test if path.parent.name == "good"]),
            OWN_BAD: (data, _spread([path for path in test if path.parent.name != "good"])),
            **{other.name: (other, _spread(find_good_images(other.folder))) for other in sets if other != data},
        }
        with Detector.load(_trained(data, work), runtime="onnxruntime") as detector:
            found = {name: _rows(detector, *of) for name, of in images.items()}
        np.savez(file, **found)
    with np.load(file) as content:
        return {name: Images(content[name]) for name in content.files}


def _trained(data: PanelSet, work: Path) -> Path:
    from edgead.adapt.training.from_folder import train_from_folder
    from edgead.adapt.training.good_images import GoodImages

    model = work / "models" / data.name
    if not model.is_dir():
        model.parent.mkdir(parents=True, exist_ok=True)
        train_from_folder(GoodImages(data.folder, group=data.group), model, find_preset("patchcore", "fast"))
    return model


def _spread(paths: list[Path]) -> list[Path]:
    """Some of them from the first to the last."""
    return [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, MEASURED).round().astype(int))]


def _rows(detector: Detector, data: PanelSet, paths: list[Path]) -> np.ndarray:
    rows = []
    for path, group in zip(paths, group_images(paths, data.group, data.folder).of(paths), strict=True):
        image = load_image(path)
        measured = detector.measure(image)
        median = float(np.median(measured.anomaly_map))
        rows.append((measured.image_score, measured.map_maximum, median, *image.shape[:2], group))
    return np.array(rows)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks blind", description=__doc__.partition("\n")[0])
    add_panel_arguments(parser, work="for models and measurements", sets=False)
    return parser
