"""How often are good scores without an outlier suspected, and how often is an outlier found? See `stand_apart`.

    python -m benchmarks outliers [SCORES.npy ...]

simulates sets of good scores from several families, and draws them from the scores of good parts in files, if given.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edgead.calibration.outliers import stand_apart

SETS = 4000
SIZES = (20, 40, 100, 300)
# Outliers, and how many robust standard deviations above the median they lie.
OUTLIERS = ((1, 6), (1, 8), (2, 8), (3, 8))

Draw = Callable[[np.random.Generator, int], np.ndarray]
FAMILIES: dict[str, Draw] = {
    "normal": lambda rng, size: rng.normal(size=size),
    "logistic": lambda rng, size: rng.logistic(size=size),
    "Gumbel": lambda rng, size: rng.gumbel(size=size),
    "log-normal, sigma 0.5": lambda rng, size: rng.lognormal(0, 0.5, size),
    "Student's t, 5": lambda rng, size: rng.standard_t(5, size),
    "Student's t, 3": lambda rng, size: rng.standard_t(3, size),
}


def suspected(draw: Draw, size: int, *, outliers: int = 0, at: float = 0.0) -> float:
    """Share of the sets in which a score stands apart; with outliers, in which all of them do."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(SETS):
        scores = draw(rng, size)
        middle = np.median(scores)
        spread = 1.4826 * np.median(np.abs(scores - middle))
        scores[:outliers] = middle + spread * (at + rng.normal(0, 0.7, outliers))
        found = set(stand_apart(scores))
        hits += set(range(outliers)) <= found if outliers else bool(found)
    return hits / SETS


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", nargs="*", type=Path, help="Scores of good parts, .npy, to draw sets from.")
    families = dict(FAMILIES)
    for path in parser.parse_args(arguments).scores:
        measured = np.load(path)
        families[path.stem] = lambda rng, size, measured=measured: rng.choice(measured, size, replace=False)
    print("suspected without an outlier, %; then all outliers found, %:", ", ".join(f"{n} at {z}" for n, z in OUTLIERS))
    for name, draw in families.items():
        for size in SIZES:
            found = [suspected(draw, size, outliers=count, at=at) for count, at in OUTLIERS]
            cells = " ".join(f"{100 * share:4.0f}" for share in found)
            print(f"{name:24} {size:4} {100 * suspected(draw, size):6.2f} | {cells}")


if __name__ == "__main__":
    main()
