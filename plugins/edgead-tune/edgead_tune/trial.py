"""Trial of a search: trains and evaluates a candidate, and builds the model of a finalist; runs on any machine."""

from __future__ import annotations

import io
import tarfile
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import cast

import numpy as np

from edgead import kernels
from edgead.adapt.build import build_artifact
from edgead.adapt.finalize import CalibrationPlan
from edgead.adapt.methods import METHODS
from edgead.adapt.methods.method import Trained
from edgead.artifact.folder import Artifact, write_arrays, write_manifest
from edgead.dataset.images import Images
from edgead.errors import EdgeadError
from edgead.heads.nearest import BANK, OF_ROWS
from edgead.heads.patches import PatchScorer
from edgead.workstation.methods.validation import DrawnTest, outputs_of, score_images
from edgead.workstation.trainer.device import use_cores
from edgead_tune.space import WINDOWS, Candidate


@dataclass(frozen=True)
class Trial:
    """Order for a worker: the candidate to try, and the images and settings to try it with.

    `learn`, `judge`: good images to learn from, and good images to evaluate with, as they are and with drawn defects.
    `threads`: number of threads of this worker.
    `build`: if given, the artifact is built too and calibrated by this plan.
    `rows`: sizes of the memory bank to evaluate, if the candidate leaves the size open.
    `groups`: group of each image to learn from; empty if each image is a group of its own.
    """

    candidate: Candidate
    learn: tuple[Path, ...]
    judge: tuple[Path, ...]
    threads: int
    seed: int
    build: CalibrationPlan | None = None
    rows: tuple[int, ...] = ()
    groups: tuple[int, ...] = ()


@dataclass(frozen=True)
class TrialResult:
    """Result of a trial: the AUROC against drawn defects and the artifact as a tar file, or the problem.

    `candidate`: the candidate, with the values chosen for its open settings.
    `artifact`: tar file of the artifact, with the largest memory bank that was tried.
    `others` (tuple of (Candidate, float)): the candidate with memory banks of other sizes, and their AUROC, best first.
    """

    candidate: Candidate
    auroc: float
    seconds: float
    artifact: bytes = field(default=b"", repr=False)
    problem: str = ""
    others: tuple[tuple[Candidate, float], ...] = ()


def run_trial(trial: Trial) -> TrialResult:
    """Train and evaluate a candidate, and build it if asked for; an error becomes the outcome's `problem`."""
    started = time.perf_counter()
    use_cores(trial.threads)
    kernels.set_threads(trial.threads)
    candidate = trial.candidate
    largest = {"memory_bank_size": max(trial.rows)} if trial.rows else {}
    try:
        method = METHODS[candidate.detector].from_settings({**largest, **candidate.settings, "seed": trial.seed})
        trained = method.fit(Images(list(trial.learn), method.preprocessing), groups=trial.groups)
        (candidate, auroc), *others = _judge(candidate, trained, trial)
        if "window" in candidate.settings:
            trained = with_window(trained, candidate.settings["window"])
        artifact = _build(trained, trial.build) if trial.build else b""
    except (EdgeadError, MemoryError) as error:
        return TrialResult(candidate, 0.0, time.perf_counter() - started, problem=str(error) or "too little memory")
    return TrialResult(candidate, auroc, time.perf_counter() - started, artifact, others=tuple(others))


def unpack(outcome: TrialResult, folder: Path) -> Path:
    """Unpack the artifact of a finalist."""
    with tarfile.open(fileobj=io.BytesIO(outcome.artifact)) as packed:
        packed.extractall(folder, filter="data")
    path = folder / "model"
    cut_bank(path, outcome.candidate.settings.get("memory_bank_size"))
    return path


def cut_bank(path: Path, rows: int | None) -> None:
    """Cut an artifact's memory bank to its first rows; greedy k-centre would choose the same for that size."""
    artifact = Artifact.load(path)
    if BANK in artifact.manifest.arrays and rows is not None:
        of_rows = [name for name in OF_ROWS if name in artifact.manifest.arrays]
        write_arrays(path, artifact.manifest, {name: artifact.array(name)[:rows] for name in of_rows})
        write_manifest(path, artifact.manifest)


def with_window(trained: Trained, window: int) -> Trained:
    """Return the trained model with patch scores averaged over windows of `window` patches a side."""
    head = trained.head.model_copy(update={"window": window})
    return replace(trained, head=head, settings={**trained.settings, "window": window})


def with_rows(trained: Trained, rows: int) -> Trained:
    """Return the trained model with only the first rows of its memory bank; see `cut_bank`."""
    of_rows = {name: trained.arrays[name][:rows] for name in OF_ROWS if name in trained.arrays}
    return replace(trained, arrays={**trained.arrays, **of_rows})


def score_by_window(trained: Trained, images: Sequence[np.ndarray], windows: Sequence[int]) -> dict[int, np.ndarray]:
    """Score each image once; return image scores by the side of the window that averages patch scores, in patches.

    Images are BGR as from a camera. The trained model's head has to be a `PatchHead`.
    """
    scores: dict[int, list[float]] = {window: [] for window in windows}
    scorers: dict[int, PatchScorer] = {}
    for image in images:
        outputs = outputs_of(trained, image)
        if not scorers:
            heads = {window: trained.head.model_copy(update={"window": window}) for window in windows}
            prepared = outputs, trained.arrays, trained.preprocessing.image_size
            scorers = {window: cast("PatchScorer", head.open(*prepared)) for window, head in heads.items()}
        patch_scores = scorers[windows[0]].patch_scores(outputs)
        for window, scorer in scorers.items():
            scores[window].append(scorer.image_score(patch_scores, outputs))
    return {window: np.array(found) for window, found in scores.items()}


def _judge(candidate: Candidate, trained: Trained, trial: Trial) -> list[tuple[Candidate, float]]:
    """Return one candidate for each size of memory bank, with the best window, and its AUROC; best first."""
    test = _test(trial.judge, trial.seed)
    if not trial.rows or "memory_bank_size" in candidate.settings:
        return [_judge_windows(candidate, trained, test)]
    found: list[tuple[Candidate, float]] = []
    for rows in sorted(trial.rows, reverse=True):
        if rows < len(trained.arrays[BANK]) or not found:
            found.append(_judge_windows(candidate.with_settings(memory_bank_size=rows), with_rows(trained, rows), test))
    return sorted(found, key=lambda one: -one[1])


def _judge_windows(candidate: Candidate, trained: Trained, test: DrawnTest) -> tuple[Candidate, float]:
    """Return the candidate and its AUROC; an open window is set to the best window."""
    if "window" in candidate.settings or candidate.detector not in WINDOWS:
        return candidate, test.auroc(score_images(trained, test.images))
    scores = score_by_window(trained, test.images, WINDOWS[candidate.detector])
    found = {window: test.auroc(of_window) for window, of_window in scores.items()}
    best = max(found, key=found.__getitem__)
    return candidate.with_settings(window=best), found[best]


@lru_cache(maxsize=1)
def _test(paths: tuple[Path, ...], seed: int) -> DrawnTest:
    return DrawnTest.of(paths, seed)


def _build(trained: Trained, plan: CalibrationPlan) -> bytes:
    with tempfile.TemporaryDirectory(prefix="edgead-trial-") as work:
        build_artifact(trained, Path(work) / "model", plan)
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(Path(work) / "model", "model")
    return packed.getvalue()
