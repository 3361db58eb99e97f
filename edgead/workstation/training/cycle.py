"""Training of the method `cycle`, from videos of a machine to a finished artifact.

The limit comes from whole cycles: each is scored by a model of the others, and its score is the highest of its single
frames. A shipped model needs several consecutive frames above the limit, so the rate is kept with a margin.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from edgead.adapt.build import write_draft
from edgead.adapt.finalize import GoodScores, measure_views, moved, write_golden
from edgead.adapt.training.good_images import input_size
from edgead.artifact.folder import Artifact, check_destination, new_artifact, write_manifest
from edgead.artifact.manifest import Preprocessing
from edgead.artifact.preprocess import preprocess
from edgead.calibration.outliers import others_at_most, stand_apart
from edgead.dataset.folders import StageProgress, no_progress
from edgead.detector import Detector
from edgead.errors import SettingsError
from edgead.images.files import write_image
from edgead.workstation.methods.cycle import Cycle, Followed
from edgead.workstation.trainer.device import use_cores

Stream = Callable[[], Iterator[np.ndarray]]
"""Function that opens one video and yields its frames from the first on, uint8 BGR (H, W, 3)."""

SIDE_PX = 256
MAX_FOLDS = 10
# The highest frame of a cycle may be an outlier by chance; a cycle with a stop scores twice as high as others.
ODD = 1.5
GOLDEN, MAX_VIEWS = 3, 100


def train_cycle(
    streams: Sequence[Stream],
    destination: Path,
    settings: Mapping[str, Any] = {},
    *,
    roi: tuple[int, int, int, int] | None = None,
    false_reject_rate: float | None = None,
    facts: Mapping[str, Any] = {},
    progress: StageProgress = no_progress,
) -> Artifact:
    """Learn a cycle from videos, export and calibrate.

    `streams`: functions that open a stream of frames; see `Stream`.
    `destination`: directory of the artifact.
    `settings`: see `edgead.workstation.methods.cycle.CycleConfig`; by default the input has the proportions of the
        frames.
    `roi`: x, y, width and height of the region of interest.
    `false_reject_rate`: largest share of normal cycles above the limit; by default the least that the cycles support.
    `facts`: further facts for the manifest's `training`.
    Raises SettingsError: no period is found, or there are too few cycles.
    Raises CalibrationError: there are too few cycles for the rate.
    """
    started = time.perf_counter()
    check_destination(destination)
    if not streams:
        raise SettingsError("no video: name one, or a folder of frames")
    model = Cycle.from_settings({**_proportions(streams[0], settings, roi), **settings})
    use_cores()
    spec = model.preprocessing.model_copy(update={"roi": roi})
    model.learn_streams([_prepared(stream, spec) for stream in streams], progress=progress)
    good = score_left_out(model, progress)
    count = len(good.scores)
    rate = 1 / (count + 1) if false_reject_rate is None else false_reject_rate
    calibration = good.calibrate(rate, None)
    provenance = {
        **facts,
        "frames": sum(len(one.rows) for one in model.followed),
        "cycles": count,
        "period_frames": round(model.period, 2),
        **_odd_cycles(model, good.scores),
        "fit_seconds": round(time.perf_counter() - started, 1),
    }
    with new_artifact(destination) as draft, TemporaryDirectory(prefix="edgead-cycle-") as folder:
        manifest = write_draft(model.trained(), draft, spec, provenance)
        shown = _write_frames(streams, model.followed, Path(folder))
        with Detector(Artifact(draft, manifest), runtime="onnxruntime") as detector:
            golden = []
            for number, path in enumerate(_spread(shown, GOLDEN)):
                name = f"golden/{number}.png"
                write_image(draft / name, moved(detector.read_image(path)))
                golden.append(write_golden(detector, draft, name, f"golden/{number}.npy"))
            views = measure_views(detector, shown, [draft / one.image for one in golden])
        manifest = manifest.model_copy(update={"views": views})
        write_manifest(draft, manifest.with_graph("fp32", calibration=calibration, golden=golden))
    return Artifact.load(destination)


def score_left_out(model: Cycle, progress: StageProgress = no_progress) -> GoodScores:
    """Score every cycle with a model of all other folds; its score is that of its highest frame.

    Cycles of which a video shows less than half do not count. Scoring of a fold starts one cycle earlier, as in a
    stream that has run for a while.
    """
    scores, maxima, medians = [], [], []
    blocks = _cycles(model)
    folds = np.array_split(np.arange(len(blocks)), min(MAX_FOLDS, len(blocks)))
    head = model.head.model_copy(update={"in_a_row": 1})
    for done, fold in enumerate(folds, 1):
        left_out = [np.zeros(len(one.rows), bool) for one in model.followed]
        for each in fold:
            number, block = blocks[each]
            left_out[number][block] = True
        rest = [Followed(one.rows[~out], one.phases[~out]) for one, out in zip(model.followed, left_out, strict=True)]
        outputs = {head.patches.name: np.zeros((1, *model.grid, model.network.mean.numel()), np.float32)}
        scorer = head.open(outputs, model.bank_of(rest), model.config.image_size)
        for each in fold:
            number, block = blocks[each]
            state = head.new_state()
            lead = max(0, block.start - math.ceil(model.period))
            found = []
            for index in range(lead, block.stop):
                outputs[head.patches.name] = model.followed[number].rows[index].reshape(1, *model.grid, -1)
                scored = scorer.score(outputs, state)
                assert scored is not None  # a score needs only one frame here
                if index >= block.start:
                    anomaly_map, maximum = scorer.anomaly_map(scored.patch_scores)
                    found.append((scored.image_score, maximum, float(np.median(anomaly_map))))
            scores.append(max(score for score, _, _ in found))
            maxima.append(max(maximum for _, maximum, _ in found))
            medians.append(float(np.median([median for _, _, median in found])))
        progress("left-out cycles", done, len(folds))
    return GoodScores(scores, maxima, medians, "cross_conformal")


def _odd_cycles(model: Cycle, scores: Sequence[float]) -> dict[str, list[str]]:
    """List cycles whose scores are outliers, as something may have happened in them."""
    cycles = _cycles(model)
    found = stand_apart(scores)
    level = ODD * others_at_most(scores, found)
    apart = [cycles[index] for index in sorted(found) if scores[index] > level]
    named = [f"frames {block.start} to {block.stop - 1} of video {number + 1}" for number, block in apart]
    return {"odd_cycles": named} if named else {}


def _cycles(model: Cycle) -> list[tuple[int, slice]]:
    """List video and frames of each cycle that counts, in order."""
    return [(number, block) for number, one in enumerate(model.followed) for block in _blocks(one, model.period)]


def _blocks(one: Followed, period: float) -> list[slice]:
    """List the frames of each cycle of a stream, if at least half of the cycle is present."""
    cycles = one.cycles
    starts = np.flatnonzero(np.diff(cycles, prepend=cycles[0] - 1))
    stops = np.append(starts[1:], len(cycles))
    found = zip(starts.tolist(), stops.tolist(), strict=True)
    return [slice(start, stop) for start, stop in found if stop - start >= period / 2]


def _proportions(stream: Stream, settings: Mapping[str, Any], roi: Sequence[int] | None) -> dict[str, Any]:
    """Choose the size of the input that has the proportions of the frames."""
    if "image_size" in settings:
        return {}
    frame = next(stream(), None)
    if frame is None:
        raise SettingsError("the first video has no frames")
    height, width = frame.shape[:2] if roi is None else (roi[3], roi[2])
    pool = int(settings.get("pool", Cycle.config_class.pool))
    return {"image_size": input_size(SIDE_PX, height / width, 16 * pool)}


def _prepared(stream: Stream, spec: Preprocessing) -> Iterable[np.ndarray]:
    return (preprocess(frame, spec) for frame in stream())


def _write_frames(streams: Sequence[Stream], followed: Sequence[Followed], folder: Path) -> list[Path]:
    """Write some evenly spaced frames as files, for the camera views and the golden images."""
    total = sum(len(one.rows) for one in followed)
    picks = set(np.linspace(0, total - 1, min(MAX_VIEWS, total)).round().astype(int).tolist())
    found, number = [], 0
    for stream in streams:
        for frame in stream():
            if number in picks:
                found.append(folder / f"{number:06d}.png")
                write_image(found[-1], frame)
            number += 1
    return found


def _spread(paths: Sequence[Path], most: int) -> list[Path]:
    return [paths[i] for i in np.linspace(0, len(paths) - 1, min(most, len(paths))).round().astype(int)]
