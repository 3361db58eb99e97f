"""What int8 costs and gains on the panel: each setting trained, exported in int8, and judged in both on both engines.

`python -m benchmarks panel_int8 PANEL_FOLDER --tiles MAGNETIC_TILES -o WORK --presets default,fast`. Each pair of data
set and setting is one JSON file in WORK/int8; what is there is not measured again. A graph that `edgead export`
refuses for its error is said so.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgead.export.calibration_images import find_calibration_images
from edgead.export.precision import PrecisionPlan, add_precision, times_as_fast
from edgead.export.rewrite import ToleranceError

from benchmarks.panel import in_passing, measure_setting, read_names
from benchmarks.panel_measures import RUNTIMES, TIMED_FRAMES, measure_outcomes, spread
from benchmarks.panel_results import Results, result_key
from benchmarks.panel_sets import PanelSet, add_panel_arguments, find_sets
from benchmarks.panel_settings import Setting, build_settings, read_presets
from edgead.artifact.folder import Artifact
from edgead.dataset.folders import LabelledImage, find_test_images
from edgead.detector import Detector
from edgead.images.files import load_image
from edgead.report.evaluate import evaluate

PRECISION = "int8"


def main(arguments: list[str]) -> None:
    """Measure what is missing, and print a row for each set and setting."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks panel_int8", description=__doc__)
    add_panel_arguments(parser, work="folder of data and results")
    parser.add_argument("--presets", default="default", metavar="NAME,...", help="as for `panel`")
    options = parser.parse_args(arguments)
    results = Results(options.output / "int8")
    for data in find_sets(options.panel, options.output, tiles=options.tiles, only=read_names(options.sets)):
        for setting in build_settings(read_presets(options.presets)):
            key = result_key(data, setting.detector, setting.of(data))
            found = results.find(data, setting.name, key)
            if found is None:
                found = results.write(data, setting.name, key, in_passing(measure_int8, data, setting))
            print(_row(found.content), flush=True)


def measure_int8(data: PanelSet, setting: Setting, model: Path) -> dict[str, Any]:
    """What `benchmarks.panel.measure_setting` gives, and under `int8` what each engine has in that precision."""
    measured = measure_setting(data, setting, model)
    images = find_calibration_images(Artifact.load(model), data.folder, group=data.group)
    try:
        artifact = add_precision(model, PrecisionPlan(PRECISION), images)
    except ToleranceError as error:
        return {**measured, PRECISION: {"refused": str(error)}}
    tests = find_test_images(data.folder)
    engines = {}
    for runtime in RUNTIMES:
        with Detector.load(model, runtime=runtime, precision=PRECISION) as detector:
            evaluation = evaluate(detector, tests)
        engines[runtime] = measure_outcomes(evaluation.outcomes, evaluation.threshold)
    method = artifact.manifest.graphs[PRECISION].method
    return {
        **measured,
        PRECISION: {
            "engines": engines,
            "frame_ratios": {runtime: _frame_ratio(model, tests, runtime) for runtime in RUNTIMES},
            "float_layers": method["float_layers"],
            "mean_score_error": method["differences"]["mean_score_error"],
        },
    }


def _frame_ratio(model: Path, images: Sequence[LabelledImage], runtime: str) -> float:
    """As `edgead.export.precision.times_as_fast`, on one engine."""
    frames = [load_image(image.path) for image in spread(images, TIMED_FRAMES)]
    with (
        Detector.load(model, runtime=runtime, precision="fp32") as fp32,
        Detector.load(model, runtime=runtime, precision=PRECISION) as int8,
    ):
        return times_as_fast(fp32, int8, frames)


def _row(content: dict[str, Any]) -> str:
    fp32, int8 = content["measures"], content[PRECISION]
    begin = f"| {content['set']} | {content['setting']} | {fp32['image_AUROC']:.4f}"
    if "refused" in int8:
        return f"{begin} | refused: {int8['refused']} |"
    aurocs = " / ".join(f"{int8['engines'][name]['image_AUROC']:.4f}" for name in RUNTIMES)
    times = " / ".join(f"{int8['frame_ratios'][name]:.2f} x" for name in RUNTIMES)
    kept = len(int8["float_layers"])
    return f"{begin} | {aurocs} | {100 * int8['mean_score_error']:.2f} % | {kept} in float | {times} |"
