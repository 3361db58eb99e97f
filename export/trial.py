"""One trial of a search: a candidate is trained and judged, and built where it is a finalist. Runs on any machine."""

from __future__ import annotations

import io
import tarfile
import tempfile
import time
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from edgead.export.build import build_artifact
from edgead.export.tune_space import WINDOWS, Candidate

from edgead import kernels
from edgead.completion import CalibrationPlan
from edgead.dataset import Images
from edgead.errors import EdgeadError
from edgead.train import DETECTORS
from edgead.train.judging import DrawnTest, score_by_window, score_images


@dataclass(frozen=True)
class Trial:
    """What one worker does.

    Attributes
    ----------
    candidate : Candidate
    learn, judge : tuple of Path
        Good images to learn from, and those that are judged, together with defects drawn on them.
    threads : int
        Of this worker.
    seed : int
    build : CalibrationPlan, optional
        Build the artifact too, and calibrate it like this.
    """

    candidate: Candidate
    learn: tuple[Path, ...]
    judge: tuple[Path, ...]
    threads: int
    seed: int
    build: CalibrationPlan | None = None


@dataclass(frozen=True)
class Outcome:
    """What came out: the AUROC against drawn defects, and the artifact as a tar file; or why there is none."""

    candidate: Candidate
    auroc: float
    seconds: float
    artifact: bytes = field(default=b"", repr=False)
    problem: str = ""


def run_trial(trial: Trial) -> Outcome:
    """Train, judge, and build if asked for; what goes wrong with one candidate does not stop the others."""
    started = time.perf_counter()
    torch.set_num_threads(trial.threads)
    kernels.set_threads(trial.threads)
    candidate = trial.candidate
    try:
        model = DETECTORS[candidate.detector].from_settings({**candidate.settings, "seed": trial.seed})
        model.fit(Images(list(trial.learn), model.preprocessing))
        candidate, auroc = _judge(candidate, model, _test(trial.judge, trial.seed))
        artifact = _build(model, trial.build) if trial.build else b""
    except EdgeadError as error:
        return Outcome(candidate, 0.0, time.perf_counter() - started, problem=str(error))
    return Outcome(candidate, auroc, time.perf_counter() - started, artifact)


def unpack(outcome: Outcome, folder: Path) -> Path:
    """Unpack the artifact of a finalist."""
    with tarfile.open(fileobj=io.BytesIO(outcome.artifact)) as packed:
        packed.extractall(folder, filter="data")
    return folder / "model"


def _judge(candidate: Candidate, model: Any, test: DrawnTest) -> tuple[Candidate, float]:
    """AUROC of a trained candidate; where its window is open, with the best, which it and the model then have."""
    if "window" in candidate.settings or candidate.detector not in WINDOWS:
        return candidate, test.auroc(score_images(model, test.images))
    scores = score_by_window(model, test.images, WINDOWS[candidate.detector])
    found = {window: test.auroc(of_window) for window, of_window in scores.items()}
    best = max(found, key=found.__getitem__)
    model.config = replace(model.config, window=best)
    return replace(candidate, settings={**candidate.settings, "window": best}), found[best]


@lru_cache(maxsize=1)
def _test(paths: tuple[Path, ...], seed: int) -> DrawnTest:
    return DrawnTest.of(paths, seed)


def _build(model: object, plan: CalibrationPlan) -> bytes:
    with tempfile.TemporaryDirectory(prefix="edgead-trial-") as work:
        build_artifact(model, Path(work) / "model", plan)  # type: ignore[arg-type]
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(Path(work) / "model", "model")
    return packed.getvalue()
