"""Forecasts of the escape rate from made defects, against the rate of real ones: magnetic tiles by tile, or others.

    python -m benchmarks defects DATA -o WORK [--presets fast,default] [--methods ratio] [--draws 20] [--each 3]
    python -m benchmarks defects DATA -o WORK --draem-steps 1000 [--seeds 2]

DATA is the folder of the magnetic tiles, or one in the MVTec layout with masks. All defects are made once, `--each` of
each reject, on good test parts of tiles without a defect. A draw takes ten rejects of each kind as known, forecasts
from what was made of them, and compares with the real rejects of all other tiles. Poisson blending of the same defects
at the same places is the control. Scores are kept in WORK/results: what is there is not judged again.

The second form trains draem with and without made defects instead, see `benchmarks.defects_draem`.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.defects_control import poisson
from benchmarks.defects_draem import compare
from benchmarks.panel_sets import GROUPS_FILE, LAYOUT_SCRIPT, TILES, PanelSet, lay_out_tiles
from edgead.dataset.folders import GOOD
from edgead.dataset.groups import group_images
from edgead.dataset.made_sets import Method, is_made, read_made
from edgead.detector import Detector
from edgead.files.atomic import write_whole
from edgead.images.files import load_image
from edgead.report.forecast import Judged, KindForecast, forecast_kind
from edgead.synthetic.made_set import Recipe, make_defects
from edgead.synthetic.rejects import by_masks, find_rejects

FALSE_REJECT_RATE = 0.05
KNOWN = 10
WITHIN = 0.10
COLUMNS = (
    *("kind", "real, other tiles"),
    *("forecast", "off by", "within 0.10"),
    *("as made", "off by", "within 0.10"),
    *("known rejects alone", "off by", "within 0.10"),
    *("all of their tiles", "off by", "within 0.10"),
    *("flagged", "interval covers"),
)
MADE: tuple[Method, ...] = ("ratio", "paste")
POISSON = "poisson"


def main(arguments: list[str]) -> None:
    """Make, judge, and print a table for each preset and method."""
    options = _parser().parse_args(arguments)
    work: Path = options.output
    data = _find(options.data, work)
    tiles = _tiles(data)
    if options.draem_steps:
        compare(data, tiles, work, options.draem_steps, options.seeds)
        return
    for method in MADE:
        _make(data, tiles, work / "made" / method, method, options.each)
    for preset in options.presets.split(","):
        model = _train(data, work / "models" / preset, preset)
        real = _real_scores(model, work, preset)
        for method in options.methods.split(","):
            made = _made_scores(model, work, f"{preset}_{method}", options.each)
            for name, limit in real["limits"].items():
                rows = _forecasts(made, real["kinds"], limit, tiles, options.draws)
                print("\n".join(_table(f"{preset}, {method}, {name}", rows)), flush=True)


def _find(data: Path, work: Path) -> PanelSet:
    """The magnetic tiles laid out by tile, or a folder in the MVTec layout whose groups are found."""
    if not (data / LAYOUT_SCRIPT).is_file():
        return PanelSet(data.name, data)
    return PanelSet(TILES, lay_out_tiles(data, work / "data" / TILES), str(data / GROUPS_FILE))


def _tiles(data: PanelSet) -> dict[str, int]:
    """The tile, or group, of each test image by its kind and name."""
    paths = sorted((data.folder / "test").glob("*/*"))
    return {_name(path): group for path, group in group_images(paths, data.group, data.folder).numbers.items()}


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _make(data: PanelSet, tiles: dict[str, int], folder: Path, method: Method, each: int) -> None:
    kinds = defaultdict(list)
    for path, kind in find_rejects(data.folder):
        kinds[kind].append((path, kind))
    defective = {tiles[_name(path)] for members in kinds.values() for path, _ in members}
    good = [path for path in sorted((data.folder / "test" / GOOD).iterdir()) if tiles[_name(path)] not in defective]
    for kind, members in kinds.items():
        if len(members) > KNOWN and not is_made(folder / kind):
            recipe = Recipe(count=each * len(members), method=method)
            make_defects(good, by_masks(members, data.folder / "ground_truth"), folder / kind, recipe)


def _train(data: PanelSet, model: Path, preset: str) -> Path:
    from edgead.workstation.methods import find_preset
    from edgead.workstation.training.from_folder import train_from_folder
    from edgead.workstation.training.good_images import GoodImages

    if not model.is_dir():
        good = GoodImages(data.folder, false_reject_rate=FALSE_REJECT_RATE, group=data.group)
        train_from_folder(good, model, find_preset("patchcore", preset))
    return model


def _real_scores(model: Path, work: Path, preset: str) -> dict[str, Any]:
    """The score of each reject by kind and name, and the limits that they are ok up to."""

    def judge(detector: Detector) -> Any:
        assert detector.graph.calibration is not None
        found: dict[str, dict[str, float]] = {}
        parts = set()
        for folder in sorted((work / "made" / MADE[0]).iterdir()):
            made = read_made(folder)
            parts |= {(Path(one.good).name, folder / one.good) for one in made.images}
            for one in made.rejects:
                score = detector.predict(load_image(folder / one.image)).image_score
                found.setdefault(one.kind, {})[_name(Path(one.image))] = float(score)
        good = [float(detector.predict(load_image(path)).image_score) for path in dict(parts).values()]
        limits = {"as shipped": detector.graph.calibration.review, "5 % of the good parts": np.quantile(good, 0.95)}
        return {"limits": {name: float(limit) for name, limit in limits.items()}, "good": good, "kinds": found}

    return _kept(work / "results" / f"{preset}_real.json", model, judge)


def _made_scores(model: Path, work: Path, what: str, each: int) -> dict[str, dict[str, list[float]]]:
    """By kind, the scores of what was made of each reject; `what` is the preset and the method."""
    method = what.rpartition("_")[2]

    def judge(detector: Detector) -> Any:
        found: dict[str, dict[str, list[float]]] = {}
        for folder in sorted((work / "made" / (MADE[0] if method == POISSON else method)).iterdir()):
            for one in read_made(folder).images:
                assert one.reject is not None
                own = found.setdefault(one.kind, {}).setdefault(_name(Path(one.reject)), [])
                if len(own) < each:
                    image = poisson(folder, one) if method == POISSON else load_image(folder / one.image)
                    own.append(float(detector.predict(image).image_score))
        return found

    return _kept(work / "results" / f"{what}_{each}.json", model, judge)


def _kept(file: Path, model: Path, judge: Callable[[Detector], Any]) -> Any:
    if not file.is_file():
        with Detector.load(model, runtime="onnxruntime") as detector:
            write_whole(file, json.dumps(judge(detector)).encode())
    return json.loads(file.read_bytes())


@dataclass(frozen=True, slots=True)
class Row:
    """One draw of one kind, as shares that are rejected: by what is made, of known ones, of their tiles, of others."""

    forecast: KindForecast
    known: float
    of_tiles: float
    truth: float

    @property
    def is_covered(self) -> bool:
        """Whether the truth lies in the interval of the forecast."""
        return self.forecast.escape_rate.low <= 1 - self.truth <= self.forecast.escape_rate.high


def _forecasts(
    made: dict[str, dict[str, list[float]]],
    real: dict[str, dict[str, float]],
    limit: float,
    tiles: dict[str, int],
    draws: int,
) -> dict[str, list[Row]]:
    """Forecast each kind from ten rejects, drawn tile by tile; the truth is that of all rejects of other tiles."""
    rows: dict[str, list[Row]] = {}
    for kind, scores in real.items():
        for draw in range(draws):
            known = _known(sorted(scores), tiles, np.random.default_rng(draw))
            of_known = {tiles[name] for name in known}
            same = [score for name, score in scores.items() if tiles[name] in of_known]
            others = [score for name, score in scores.items() if tiles[name] not in of_known]
            judged = [Judged(name, tiles[name], score, score <= limit) for name in known for score in made[kind][name]]
            beside = [Judged(name, tiles[name], scores[name], scores[name] <= limit) for name in known]
            forecast = forecast_kind(judged, beside, limit)
            of_each = [scores[name] for name in known], same, others
            shares = [float(np.mean(np.array(values) > limit)) for values in of_each]
            rows.setdefault(kind, []).append(Row(forecast, *shares))
    return rows


def _known(names: list[str], tiles: dict[str, int], rng: np.random.Generator) -> list[str]:
    """Ten rejects of as few images a tile as may be, at most half of the tiles: the others are the truth."""
    groups = sorted({tiles[name] for name in names})
    chosen = set(rng.permutation(groups)[: (len(groups) + 1) // 2])
    by_tile: dict[int, list[str]] = {}
    for name in rng.permutation(names):
        if tiles[name] in chosen:
            by_tile.setdefault(tiles[name], []).append(str(name))
    in_turn = [name for turn in zip_longest(*by_tile.values()) for name in turn if name is not None]
    return in_turn[:KNOWN]


def _table(title: str, rows: dict[str, list[Row]]) -> Iterator[str]:
    """A row a kind: means over the draws."""
    yield f"\n{title}: share rejected, mean over {len(next(iter(rows.values())))} draws of {KNOWN} known rejects a kind"
    yield f"| {' | '.join(COLUMNS)} |"
    yield "|---" * len(COLUMNS) + "|"
    for kind, draws in rows.items():
        truth = np.array([one.truth for one in draws])
        shares = {
            "forecast": np.array([1 - one.forecast.escape_rate.rate for one in draws]),
            "as made": np.array([1 - one.forecast.made.rate for one in draws]),
            "known": np.array([one.known for one in draws]),
            "tiles": np.array([one.of_tiles for one in draws]),
        }
        cells = [kind, f"{truth.mean():.2f}"]
        for share in shares.values():
            off = share - truth
            cells += [f"{share.mean():.2f}", f"{np.abs(off).mean():.2f}", f"{(np.abs(off) <= WITHIN).mean():.2f}"]
        flagged = np.array([one.forecast.is_flagged for one in draws])
        cells += [f"{flagged.mean():.2f}", f"{np.mean([one.is_covered for one in draws]):.2f}"]
        yield f"| {' | '.join(cells)} |"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks defects", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="the magnetic tiles with lay_by_tile.py, or MVTec layout")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="WORK", help="folder of models and results")
    parser.add_argument("--presets", default="fast,default", metavar="NAME,...", help="presets of patchcore")
    parser.add_argument(
        "--methods", default=",".join((*MADE, POISSON)), metavar="NAME,...", help="how defects are made"
    )
    parser.add_argument("--draws", type=int, default=20, help="choices of the known rejects")
    parser.add_argument("--each", type=int, default=3, help="made images of each reject that are judged")
    parser.add_argument("--draem-steps", type=int, help="train draem with and without made defects, for so many steps")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of draem of each")
    return parser
