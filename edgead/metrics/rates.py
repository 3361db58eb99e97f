"""Counted shares with exact intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

_MAX_TERMS = 1_000_000


@dataclass(frozen=True, slots=True)
class Rate:
    """A share that was counted, with its Clopper-Pearson interval."""

    count: int
    total: int
    low: float
    high: float
    confidence: float = 0.95

    @classmethod
    def of(cls, count: int, total: int, confidence: float = 0.95) -> Rate:
        """Build the rate of `count` in `total` with its interval."""
        return cls(count, total, *clopper_pearson(count, total, confidence), confidence)

    @property
    def rate(self) -> float:
        return self.count / self.total

    def __str__(self) -> str:
        return (
            f"{self.count} of {self.total} ({100 * self.rate:.1f} %, {100 * self.confidence:g} % interval "
            f"{100 * self.low:.1f} to {100 * self.high:.1f} %)"
        )


def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Compute the exact interval of a binomial rate.

    Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
    Biometrika 1934. The bounds are quantiles of beta distributions, found by bisection.

    Raises ValueError for counts that are no rate and for a confidence that is not between 0 and 1.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"a rate needs 0 <= successes <= n and n >= 1, got {successes} of {n}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence lies between 0 and 1, got {confidence}")
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else _beta_quantile(tail, successes, n - successes + 1)
    # The upper bound is one minus the lower bound of the failures, which keeps its tail small and exact.
    high = 1.0 if successes == n else 1 - _beta_quantile(tail, n - successes, successes + 1)
    return low, high


def _beta_quantile(probability: float, a: int, b: int) -> float:
    low, high = 0.0, 1.0
    while low < (middle := (low + high) / 2) < high:
        if _beta_cdf(middle, a, b) < probability:
            low = middle
        else:
            high = middle
    return middle


def _beta_cdf(x: float, a: int, b: int) -> float:
    """Evaluate the regularised incomplete beta function by its continued fraction.

    Lentz's method as in Press et al., "Numerical Recipes", section 6.4; it converges fast below the mean,
    and the symmetry of the function leads there.
    """
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta_cdf(1 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    fraction = d
    for m in range(1, _MAX_TERMS):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            c, d = 1 + term / c, 1 / (1 + term * d)
            fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return math.exp(log_front) * fraction / a
