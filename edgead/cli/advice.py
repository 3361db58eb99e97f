"""Table of limits after `edgead train`, with advice: what the thresholds mean, and what would help."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from edgead.adapt.highest import look_at_highest
from edgead.adapt.kept_images import measure_kept
from edgead.artifact.earlier_versions import versions_folder
from edgead.artifact.folder import Artifact
from edgead.artifact.manifest import PROVEN, Calibration
from edgead.artifact.preprocess import inputs_of
from edgead.calibration.conformal import images_needed
from edgead.calibration.guarantee import STRICT, guarantee_of
from edgead.calibration.operating_point import SHOWN_RATES, operating_points
from edgead.calibration.plan import OFFERED_RATES
from edgead.cli.console import edgead_command, facts_table, next_steps, stdout
from edgead.dataset.errors import DatasetError
from edgead.dataset.folders import find_test_images
from edgead.dataset.labelled import UNSPLIT
from edgead.detector import Detector

# The network pads its input with zeros: a band of this share of height and width scores high for no reason.
BORDER = 1 / 16
FEWEST_RANKED = 4
# Facts of a training whose own names are not the words that people know.
_NAMES = {
    "training_images": "images learnt",
    "calibration_images": "images that make the limit",
    "took_seconds": "took_in_all_seconds",
    "fit_seconds": "learnt_in_seconds",
    "false_reject_rate": "limit for a false reject rate of",
    "threshold": "limit, as a raw score",
    "review_threshold": "limit for review, as a raw score",
    "volume_threshold": "limit of volumes",
    "chosen": "size of the network's input",
}


def print_points(artifact: Artifact, defects: Sequence[Path]) -> None:
    """Print the table of limits of a model that was just trained; nothing if it has no thresholds."""
    calibration = artifact.graph().calibration
    if calibration is None or not calibration.scores:
        return
    with Detector(artifact, runtime="onnxruntime") as detector:
        found = detector.image_scores(defects)
    stdout.print(points_table(calibration, found))


def points_table(calibration: Calibration, defects: Sequence[float] = ()) -> Table:
    """Make the table of limits for several false-reject rates: good images above each limit, and defects found.

    `calibration`: calibration that has scores.
    `defects`: scores of known defects.
    """
    rates = sorted({*SHOWN_RATES, calibration.false_reject_rate, calibration.review_rate})
    table = Table(title="what other limits would do", title_justify="left")
    for column in ("reject", "expected", "limit", "good images above it", *(["defects found"] if len(defects) else [])):
        table.add_column(column)
    proven = calibration.method in PROVEN
    for point in operating_points(calibration.scores, calibration.groups, defects, rates):
        chosen = point.rate == calibration.false_reject_rate
        cells = [
            f"{100 * point.rate:.3g} %{' (chosen)' if chosen else ''}",
            f"{'at most' if proven else 'about'} {100 * point.rate:.3g} %",
            f"{point.limit:.4g}",
            f"{point.above} of {len(calibration.scores)}",
            *([f"{point.found} of {len(defects)}"] if len(defects) else []),
        ]
        table.add_row(*cells, style="bold" if chosen else None)
    return table


def training_table(report: dict[str, Any]) -> Table:
    """Make a table of the main facts about a model that was just made; the JSON report has all facts."""
    left_out = {
        "model",
        "backbone_sha256",
        "channels",
        "commissioned",
        "damping",
        "data_sha256",
        "device",
        "highest_images",
        "images_apart",
        "odd_images",
        "peak_memory_mib",
    }
    left_out |= {"peak_gpu_memory_mib", "shrunk", "skipped_images", "two_products", "warnings"}
    left_out |= set() if report.get("skipped") else {"skipped"}
    if report.get("review_threshold") == report.get("threshold"):  # nobody asked for reviews
        left_out.add("review_threshold")
    groups = report["groups"]
    shown = {key: value for key, value in report.items() if key not in left_out | {"groups"}}
    if groups["groups"] < report["training_images"]:  # else each image is a group of its own, which is usual
        shown["groups"] = groups["account"]
    return facts_table(report["model"], {_NAMES.get(key, key): value for key, value in shown.items()})


def advise(artifact: Artifact, data: Path | None, replaced: bool) -> list[str]:
    """List sentences of advice for the terminal, in reading order.

    `artifact`: model that was just trained.
    `data`: folder that it was trained on, if there was one.
    `replaced`: whether the new model has replaced another one.
    """
    lines = [
        *_of_the_rate(artifact),
        *look_at_highest(artifact),
        *_of_the_border(artifact),
        *_of_the_tiles(artifact),
        *_of_the_precision(artifact),
        *_of_the_damping(artifact),
    ]
    if replaced:
        kept, undo = versions_folder(artifact.path), edgead_command("teach", artifact.path, "--undo")
        lines.append(f"The model that was here is the newest in {kept}; `{undo}` puts it back.")
    return [*lines, *_next(artifact, data)]


def _of_the_rate(artifact: Artifact) -> list[str]:
    calibration = artifact.graph().calibration
    assert calibration is not None
    return [without_thresholds(artifact.path)] if calibration.method == "none" else guarantee_of(calibration)


def without_thresholds(model: Path) -> str:
    """Return a sentence on how to calibrate a model made from golden parts or words, which has no thresholds yet."""
    command = edgead_command("calibrate", model, "GOOD_IMAGES")
    return (
        f"Every image is for review: the model has no thresholds yet. `{command}` makes them, from "
        f"{images_needed(OFFERED_RATES[-1])} or more good images that it has not learnt from "
        f"({images_needed(STRICT)} for 1 false reject in 100)."
    )


def _of_the_border(artifact: Artifact) -> list[str]:
    """Suggest a region if good images score highest at the image's border, which is seldom part of the product."""
    spec = artifact.manifest.preprocessing
    golden = [artifact.image(one.image).shape[:2] for one in artifact.learnt_graph.golden]
    ranked = artifact.manifest.kept
    chosen = any((spec.roi, spec.ignored, spec.alignment))  # somebody has said where to look
    if chosen or len(set(golden)) != 1 or len(ranked) < FEWEST_RANKED:
        return []
    highest = ranked[-max(FEWEST_RANKED, len(ranked) // 4) :]
    with Detector(artifact, runtime="onnxruntime") as detector:
        peaks = [_peak(measure_kept(detector, one).anomaly_map) for one in highest]
    at_border = sum(any(not BORDER <= place < 1 - BORDER for place in peak) for peak in peaks)
    if 2 * at_border <= len(peaks):
        return []
    height, width = golden[0]
    y, x = round(BORDER * height), round(BORDER * width)
    return [
        f"Of the {len(peaks)} good images with the highest scores, {at_border} score highest at the image's "
        f"border: where no part lies there, train with --roi {x},{y},{width - 2 * x},{height - 2 * y}."
    ]


def _of_the_precision(artifact: Artifact) -> list[str]:
    """Return a sentence on how the int8 graph changes scores, or on why training left it out."""
    left_out = artifact.manifest.training.get("int8_left_out")
    if left_out:
        return [f"Frames run in fp32: {left_out}."]
    precision = artifact.manifest.precision
    method = artifact.manifest.graphs[precision].method
    if precision == "fp32" or not method:
        return []
    moved, count = method["differences"]["mean_score_error"], method["differences"]["images"]
    return [
        f"Frames run in {precision}, faster: scores of good images move by {100 * moved:.2g} % on average, and "
        f"{method['decision_flips'] or 'none'} of {count} are judged otherwise than in fp32, where both have limits "
        "for the same rate. --precision fp32 trains without."
    ]


def _of_the_damping(artifact: Artifact) -> list[str]:
    """Return a sentence on whether the lengths of patches count fully in this model, and why."""
    found = artifact.manifest.training.get("damping")
    if not found:
        return []
    ways = {"damped": "less than", "plain": "as much as"}
    way, other = ways if found["damps"] else reversed(ways)
    return [
        f"How strong a spot is counts {ways[way]} what it looks like (damp_length): of 1,000 pairs of a drawn defect "
        f"and a good image, the defect scores higher in {1000 * found[way]:.0f}, and in {1000 * found[other]:.0f} if "
        f"it counts {ways[other]} that."
    ]


def _of_the_tiles(artifact: Artifact) -> list[str]:
    """Return a sentence on the time that a frame cut into tiles takes: far more than an uncut one."""
    spec = artifact.manifest.preprocessing
    if spec.tiles is None:
        return []
    image = artifact.image(artifact.learnt_graph.golden[0].image)
    with Detector(artifact) as detector:
        times = detector.measure(image).stage_times
    took_ms = times.preprocess_ms + times.infer_ms + times.score_ms + times.smooth_ms
    count = len(inputs_of(spec, image.shape))
    return [
        f"A frame of {image.shape[1]} x {image.shape[0]} pixels is {count} tiles and takes about {took_ms:.0f} ms on "
        "this machine."
    ]


def _peak(anomaly_map: np.ndarray) -> tuple[float, float]:
    """Return the place of the map's maximum, (y, x) as shares of height and width."""
    y, x = np.unravel_index(int(anomaly_map.argmax()), anomaly_map.shape)
    return (float(y) + 0.5) / anomaly_map.shape[0], (float(x) + 0.5) / anomaly_map.shape[1]


def _next(artifact: Artifact, data: Path | None) -> list[str]:
    model, keeps_depth = artifact.path, artifact.manifest.preprocessing.keeps_depth
    source, what = ("watch:FOLDER", "a folder that a camera fills") if keeps_depth else ("camera:0", "a camera")
    steps = [(edgead_command("predict", model, "IMAGES", "--heat-maps", "maps"), "judges images")]
    options = None if data is None else _options_of_eval(artifact, data)
    tested = [data, *options] if data is not None and options is not None else ["TEST_SET"]
    steps.insert(0, (edgead_command("eval", model, *tested), "shows how many defects it finds"))
    steps.append(
        (edgead_command("stream", model, source, "--sink", "images:rejects?only=reject"), f"runs it on {what}")
    )
    return next_steps(*steps)


def _options_of_eval(artifact: Artifact, data: Path) -> list[str] | None:
    """Return the options of `edgead eval` for the folder of training data; None if it has nothing to test with."""
    with suppress(DatasetError):
        held_out = "hold_out" in artifact.manifest.training
        learnt = not held_out and any(image.split == UNSPLIT for image in find_test_images(data))
        return ["--left-out"] * learnt if artifact.manifest.head.leaves_out(0) or not learnt else None
    return None
