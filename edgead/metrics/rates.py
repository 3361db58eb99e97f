"""Rates from counts, with exact confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

_MAX_TERMS = 1_000_000


@dataclass(frozen=True, slots=True)
class Rate:
    """Counted rate with its Clopper-Pearson interval; `groups` is None if every image counts alone."""

    count: int
    total: int
    low: float
    high: float
    confidence: float = 0.95
    groups: int | None = None

    @classmethod
    def of(cls, count: int, total: int, confidence: float = 0.95) -> Rate:
        """Build the rate of `count` in `total` with its interval."""
        return cls(count, total, *clopper_pearson(count, total, confidence), confidence)

    @classmethod
    def of_groups(
        cls, events: Sequence[bool], groups: Sequence[Hashable] | None = None, confidence: float = 0.95
    ) -> Rate:
        """Build the rate of events that are dependent within each group.

        The interval is that of Clopper and Pearson for the effective number of images: their number divided by the
        design effect of the rate (Korn and Graubard, "Confidence intervals for proportions with small expected number
        of positive counts estimated from survey data", 1998; without their factor of t quantiles). If no image or
        every image is an event, the design effect is unknown, and each group counts as one image.
        """
        several = bool(groups) and len(set(groups or ())) < len(events)
        if not several:
            return cls.of(sum(events), len(events), confidence)
        images = worth(events, groups or ())
        return cls.worth_images(sum(events), len(events), images, len(set(groups or ())), confidence)

    @classmethod
    def worth_images(cls, count: int, total: int, images: float, groups: int, confidence: float = 0.95) -> Rate:
        """Build the rate of `count` in `total` in `groups` groups, with the interval of `images` independent images."""
        # The products are exact for rates of 0 and 1, where a bound must be 0 or 1.
        bounds = clopper_pearson(count / total * images, images, confidence)
        return cls(count, total, *bounds, confidence, groups)

    @property
    def rate(self) -> float:
        return self.count / self.total

    def __str__(self) -> str:
        return (
            f"{self.count} of {self.total} ({100 * self.rate:.1f} %, {100 * self.confidence:g} % interval "
            f"{100 * self.low:.1f} to {100 * self.high:.1f} %)"
        )


def worth(events: Sequence[bool], groups: Sequence[Hashable]) -> float:
    """Compute the effective number of independent events among events that are dependent within each group."""
    n, share = len(events), sum(events) / len(events)
    excess: dict[Hashable, float] = {}
    for event, group in zip(events, groups, strict=True):
        excess[group] = excess.get(group, 0.0) + event - share
    count = len(excess)
    if share in (0, 1):
        return count
    if count == 1:
        return 1
    variance = count / (count - 1) * sum(value * value for value in excess.values()) / n**2
    return min(n, max(1.0, share * (1 - share) / variance)) if variance > 0 else n


def clopper_pearson(successes: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """Compute the exact interval of a binomial rate.

    Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
    Biometrika 1934. The bounds are quantiles of beta distributions, found by bisection. Counts need not be whole.

    Raises ValueError for counts that are no rate and for a confidence that is not between 0 and 1.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"a rate needs 0 <= successes <= n and n >= 1, got {successes} of {n}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence lies between 0 and 1, got {confidence}")
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else _beta_quantile(tail, successes, n - successes + 1)
    # The upper bound is one minus the lower bound for the failures, which keeps the tail small and exact.
    high = 1.0 if successes == n else 1 - _beta_quantile(tail, n - successes, successes + 1)
    return low, high


def _beta_quantile(probability: float, a: float, b: float) -> float:
    low, high = 0.0, 1.0
    while low < (middle := (low + high) / 2) < high:
        if _beta_cdf(middle, a, b) < probability:
            low = middle
        else:
            high = middle
    return middle


def _beta_cdf(x: float, a: float, b: float) -> float:
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
