"""Settings of patchcore on a panel of data sets, by the path that a user takes: trained, exported, judged as shipped.

    python -m benchmarks panel PANEL_FOLDER --tiles MAGNETIC_TILES -o WORK --presets default,fast,fine
    python -m benchmarks panel PANEL_FOLDER -o WORK --presets default,wide:window=7,top_patches=3
    python -m benchmarks panel PANEL_FOLDER -o WORK --table

Each pair of data set and setting is one JSON file in WORK/results, with every image's score; what is there is not
measured again. Tables: a measure each, then what each set has by the setting that is best on the other sets, for a
default is chosen with the data set left out that it is reported on.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.panel_measures import fastest, frame_times, measure_outcomes
from benchmarks.panel_results import Results, image_rows, result_key
from benchmarks.panel_sets import PanelSet, add_panel_arguments, find_sets
from benchmarks.panel_settings import Setting, build_settings, read_presets
from benchmarks.panel_tables import tables
from edgead.dataset.folders import find_test_images
from edgead.detector import Detector
from edgead.errors import EdgeadError
from edgead.profiling.contention import OtherLoad, describe_use
from edgead.report.evaluate import evaluate

Work = Callable[[PanelSet], dict[str, Any]]
Measure = Callable[[PanelSet, Setting, Path], dict[str, Any]]


def main(arguments: list[str]) -> None:
    """Measure what is missing, then print the tables."""
    options = _parser().parse_args(arguments)
    results = Results(options.output / "results")
    only = read_names(options.sets)
    if not options.table:
        try:
            _measure_missing(options, results, only)
        except EdgeadError as error:
            raise SystemExit(f"error: {error}") from None
    found = results.all(only)
    if not found:
        raise SystemExit(f"{results.folder} holds no results: run the panel without --table first")
    print("\n".join(tables(found, latency_ms=options.latency_ms)))


def measure_setting(data: PanelSet, setting: Setting, model: Path) -> dict[str, Any]:
    """Train, export and calibrate a model at `model`, judge the test set as shipped, and time frames."""
    from edgead.adapt.training.from_folder import train_from_folder
    from edgead.adapt.training.good_images import GoodImages

    started = time.perf_counter()
    good = GoodImages(data.folder, group=data.group)
    artifact, _ = train_from_folder(good, model, setting.of(data), detector=setting.detector)
    train_s = time.perf_counter() - started
    tests = find_test_images(data.folder)
    with Detector.load(model, runtime="onnxruntime") as detector:
        evaluation = evaluate(detector, tests)
        limits = detector.graph.calibration
    load = OtherLoad()
    times = frame_times(model, tests)
    measures = measure_outcomes(evaluation.outcomes, evaluation.threshold)
    groups = artifact.manifest.training["groups"]
    return {
        "measures": {**measures, "train_s": train_s, **fastest(times)},
        "images": image_rows(evaluation.outcomes, data),
        "groups": groups["groups"],
        "calibration_groups": groups["held_out_groups"],
        "calibration": limits.model_dump(mode="json") if limits else None,
        "training": artifact.manifest.training,
        "frame_times": times,
        "other_load": describe_use(load.use()).removeprefix("; "),
    }


def _measure_missing(options: argparse.Namespace, results: Results, only: list[str]) -> None:
    """Set by set, so that the first sets can be compared while the others are measured."""
    # What a setting or a missing package refuses is known before the first training.
    work = [*_settings_work(options), *(_anomalib_work() if options.anomalib else [])]
    for data in find_sets(options.panel, options.output, tiles=options.tiles, only=only):
        for name, detector, settings_of, measure in work:
            key = result_key(data, detector, settings_of(data))
            if not options.again and results.find(data, name, key):
                continue
            started = time.perf_counter()
            result = results.write(data, name, key, measure(data))
            auroc = result.content["measures"]["image_AUROC"]
            print(f"{data.name}, {name}: image AUROC {auroc:.3f}, {time.perf_counter() - started:.0f} s", flush=True)


def _settings_work(options: argparse.Namespace) -> list[tuple[str, str, Work, Work]]:
    presets = read_presets(options.presets)
    return [
        (
            setting.name,
            setting.detector,
            setting.of,
            lambda data, setting=setting: in_passing(measure_setting, data, setting),
        )
        for setting in build_settings(presets, options.set)
    ]


def _anomalib_work() -> list[tuple[str, str, Work, Work]]:
    from benchmarks import panel_anomalib as opponent

    opponent.check_installed()
    return [
        (
            variant.name,
            "anomalib",
            lambda data, v=variant: opponent.settings_of(v),
            lambda data, v=variant: opponent.measure(data, v),
        )
        for variant in opponent.VARIANTS
    ]


def in_passing(measure: Measure, data: PanelSet, setting: Setting) -> dict[str, Any]:
    """Measure a model that is not kept: its settings and its seed make it again."""
    with tempfile.TemporaryDirectory(prefix="edgead-panel-") as folder:
        return measure(data, setting, Path(folder) / "model")


def read_names(text: str) -> list[str]:
    """Read NAME,..., empty for all."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks panel", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_panel_arguments(parser, work="folder of data and results")
    parser.add_argument(
        "--presets", default="default", metavar="NAME,...", help="presets of patchcore, or NAME:key=value,..."
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="on top of every setting")
    parser.add_argument("--anomalib", action="store_true", help="anomalib's PatchCore beside them, if it is installed")
    parser.add_argument("--latency-ms", type=float, help="slower settings, by the mean of the medians, are not chosen")
    parser.add_argument("--again", action="store_true", help="measure again what has a result")
    parser.add_argument("--table", action="store_true", help="print the tables of the results, measure nothing")
    return parser
