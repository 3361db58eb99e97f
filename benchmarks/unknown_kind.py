"""Is a reject of a kind never seen known better by S3AD's score than by how far it is from the known ones?

    python -m benchmarks unknown_kind MAGNETIC_TILES -o WORK --bottle PANEL/bottle

Sets and options are those of `python -m benchmarks kinds`. One kind after the other is unknown, half of the parts of
the others are known (`kinds_measures.open_set`). AUROC, unknown against known, the mean over kinds and draws, of
today's p-value and of the scores below.

The scores are those of Mu et al. (S3AD, IoT-J 2026), as the authors' code has them: what is foreground, less how much
it is of the known classes. The code's scores are sigmoids of a detection head, which has seen the background; no such
head is here. Taken in their place, and ours: as foreground, how far the image's score is above the limit; as classes, a
logistic regression for each known kind against the others and, as background, against good images, on distances to the
examples. S3AD's detector of road users in stereo images is not taken. The two settings were chosen on the first split
of the tiles, on which those of edgead's kinds were as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression

from benchmarks.kinds import GOOD, describe_set, make_parser, sets_of, trained
from benchmarks.kinds_measures import Described, draw_parts, judge_by
from edgead import metrics
from edgead.detector.known_kinds import distances_between, residual_scale, to_know

_WIDTH, _STRENGTH = 0.7, 10.0  # of the kernel, in median distances, as edgead's kinds; inverse of the penalty


def rbaf(foreground: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Foreground less the mean of the known classes.

    Parameters
    ----------
    foreground : ndarray of shape (n,), float64
        From 0 to 1.
    known : ndarray of shape (n, classes), float64
        From 0 to 1.
    """
    return foreground - known.mean(axis=1)


def rba(foreground: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The same with a foreground that is one from 0.5 on, or none."""
    return (foreground > 0.5) - known.mean(axis=1)


def mspf(foreground: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Foreground less the largest of the known classes, 0 at least."""
    return np.maximum(foreground - known.max(axis=1), 0)


def msp(foreground: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The same with a foreground that is one from 0.5 on, or none."""
    return np.maximum((foreground > 0.5) - known.max(axis=1), 0)


SCORES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "RBAF": rbaf,
    "RBA": rba,
    "MSPF": mspf,
    "MSP": msp,
}


def main(arguments: list[str]) -> None:
    """Print what each score finds on each set; what `python -m benchmarks kinds` has left is taken as it is."""
    options = make_parser("unknown_kind", __doc__).parse_args(arguments)
    work: Path = options.output
    for name, make in sets_of(options):
        data = make(work / "data" / name)
        model = trained(data, work / "models" / name, options.preset)
        print(name, json.dumps(measured(*describe_set(data, model, work / "described" / f"{name}.npz"))), flush=True)


def measured(data: Described, names: list[str], *, draws: int = 5) -> dict[str, float]:
    """AUROC of each score, and of those in use: the p-value, and the distance that it ranks."""
    is_good = np.array([names[kind] == GOOD for kind in data.kinds])
    good, defects = data.of(is_good), data.of(~is_good)
    limit = _limit(data)
    found: dict[str, list[float]] = {"p_value": [], **{name: [] for name in SCORES}, "kinds_alone": []}
    for unknown in np.unique(defects.kinds):
        for rng in draw_parts(draws):
            parts = rng.permutation(np.unique(defects.parts))
            in_half = np.isin(defects.parts, parts[: len(parts) // 2])
            known, test = np.flatnonzero(in_half & (defects.kinds != unknown)), np.flatnonzero(~in_half)
            is_new = defects.kinds[test] == unknown
            if is_new.all() or not is_new.any():
                continue
            p_values = np.array([p_value for _, (_, p_value) in judge_by(defects, known, test, 0.05)])
            found["p_value"].append(metrics.auroc(is_new, -p_values))
            tested = defects.of(test)
            classes = class_scores(defects.of(known), good, tested, rng)
            scores = np.array([one.image_score for one in tested.judged])
            foreground = 1 / (1 + np.exp(-(scores - limit) / max(scores.std(), 1e-9)))
            for name, score in SCORES.items():
                found[name].append(metrics.auroc(is_new, score(foreground, classes)))
            found["kinds_alone"].append(metrics.auroc(is_new, -classes.max(axis=1)))
    return {name: round(float(np.mean(values)), 3) for name, values in found.items()}


def class_scores(known: Described, good: Described, tested: Described, rng: np.random.Generator) -> np.ndarray:
    """How much rejects are of each known kind, float64 (n, kinds), from 0 to 1, each kind by itself.

    As much background as there are examples is drawn from good images of parts that are not tested.
    """
    others = np.flatnonzero(~np.isin(good.parts, tested.parts))
    drawn = good.of(rng.permutation(others)[: len(known.kinds)])
    descriptors = np.concatenate([known.descriptors, drawn.descriptors]) if len(drawn.kinds) else known.descriptors
    scale = residual_scale(known.descriptors)
    examples, rows = to_know(descriptors, scale), to_know(tested.descriptors, scale)
    among = distances_between(examples, examples)
    width = _WIDTH * float(np.median(among)) or 1.0
    kernel = [np.exp(-0.5 * np.square(each / width)) for each in (among, distances_between(rows, examples))]
    columns = []
    for kind in np.unique(known.kinds):
        target = np.concatenate([known.kinds == kind, np.zeros(len(descriptors) - len(known.kinds), bool)])
        model = LogisticRegression(C=_STRENGTH, solver="newton-cholesky", max_iter=200).fit(kernel[0], target)
        columns.append(model.predict_proba(kernel[1])[:, 1])
    return np.stack(columns, axis=1)


def _limit(data: Described) -> float:
    """The image score above which is rejected, as near as the decisions show it."""
    scores = np.array([one.image_score for one in data.judged])
    rejected = np.array([one.decision != "ok" for one in data.judged])
    if rejected.all() or not rejected.any():
        return float(np.median(scores))
    return float((scores[rejected].min() + scores[~rejected].max()) / 2)
