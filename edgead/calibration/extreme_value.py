"""The tail of good parts' scores beyond the images at hand: a generalised Pareto distribution and how well it fits.

Excesses over a high value tend to a generalised Pareto distribution (Balkema and de Haan 1974, Pickands 1975). What is
read from it below 1 / (n + 1) is an extrapolation: it rests on the fit and is no guarantee.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edgead.artifact.manifest import TailFit
from edgead.errors import EdgeadError

FEWEST_SCORES = 100
FEWEST_EXCESSES = 20
# How far below 1 / (n + 1) a rate may be: further out, the interval of the rate is wider than a factor of ten.
FURTHEST = 10
# A fit whose Anderson-Darling test gives less is refused.
LOWEST_FIT_P_VALUE = 0.05
_REFITS = 500


class TailError(EdgeadError):
    """The scores do not allow the extrapolation; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Pareto:
    """Generalised Pareto distribution of excesses x >= 0: P(X > x) = (1 + shape x / scale)^(-1 / shape)."""

    shape: float
    scale: float

    def survival(self, excess: np.ndarray | float) -> np.ndarray:
        """P(X > excess); 0 beyond the end of a distribution with negative shape."""
        x = np.asarray(excess, np.float64) / self.scale
        if self.shape == 0:
            return np.exp(-x)
        with np.errstate(divide="ignore"):
            return np.exp(-np.log1p(np.maximum(self.shape * x, -1)) / self.shape)

    def excess(self, probability: np.ndarray | float) -> np.ndarray:
        """The excess that is exceeded with that probability: the inverse of `survival`."""
        log_p = np.log(np.asarray(probability, np.float64))
        return self.scale * (-log_p if self.shape == 0 else np.expm1(-self.shape * log_p) / self.shape)


def fit_pareto(excesses: Sequence[float] | np.ndarray) -> Pareto:
    """Fit a generalised Pareto distribution.

    Zhang and Stephens, "A new and efficient estimation method for the generalized Pareto distribution", Technometrics
    2009: the mean of shape / scale over a grid, weighted by the profile likelihood. Close to maximum likelihood, and
    defined where that has no maximum.

    Parameters
    ----------
    excesses : array_like of shape (n,)
        Positive and not all equal.

    Raises
    ------
    TailError
        If the excesses are not positive or all equal.
    """
    x = np.sort(np.asarray(excesses, np.float64))
    if x.size < 2 or x[0] <= 0 or x[0] == x[-1]:
        raise TailError("the highest scores are equal: no tail can be fitted to them; give more, and different, images")
    n, points = x.size, 20 + int(math.sqrt(x.size))
    quartile = x[int(n / 4 + 0.5) - 1] if n > 1 else x[0]
    grid = 1 / x[-1] + (1 - np.sqrt(points / (np.arange(1, points + 1) - 0.5))) / (3 * quartile)
    shapes = np.log1p(-grid[:, None] * x).mean(axis=1)
    log_likelihood = n * (np.log(-grid / shapes) - shapes - 1)
    weights = np.exp(log_likelihood - log_likelihood.max())
    theta = float(np.sum(grid * weights) / np.sum(weights))
    shape = float(np.log1p(-theta * x).mean())
    return Pareto(shape, -shape / theta)


def anderson_darling(excesses: np.ndarray, distribution: Pareto) -> float:
    """Anderson-Darling statistic A² of excesses against a distribution (Choulakian and Stephens 2001, section 2)."""
    survival = np.clip(distribution.survival(np.sort(excesses)), 1e-300, 1 - 1e-16)
    n = survival.size
    odd = 2 * np.arange(1, n + 1) - 1
    return float(-n - np.sum(odd * (np.log1p(-survival) + np.log(survival[::-1]))) / n)


def extrapolate(scores: Sequence[float] | np.ndarray, false_reject_rate: float) -> tuple[float, TailFit]:
    """Read a threshold off the fitted tail.

    Parameters
    ----------
    scores : array_like of shape (n,)
        Image scores of held-out good parts; n >= `FEWEST_SCORES`.
    false_reject_rate : float
        At least 1 / (`FURTHEST` (n + 1)).

    Returns
    -------
    (float, TailFit)
        The threshold and the fit behind it. Its `rate_low` and `rate_high` hold the true rate in 90 % of refits to
        samples drawn from the fit; its p-value is that of the Anderson-Darling test, from the same samples (the
        tables of Choulakian and Stephens, "Goodness-of-fit tests for the generalized Pareto distribution",
        Technometrics 2001, by simulation).

    Raises
    ------
    TailError
        Too few or equal scores, a rate too far out, or a tail that does not fit.
    """
    values = np.sort(np.asarray(scores, np.float64))
    n = values.size
    _check_reach(n, false_reject_rate)
    count = max(FEWEST_EXCESSES, round(n / 10))
    over = float(values[n - count - 1])
    excesses = values[n - count :] - over
    fit = fit_pareto(excesses[excesses > 0])
    share = count / n
    statistic = anderson_darling(excesses[excesses > 0], fit)
    statistics, rates = _refit(fit, n, share, false_reject_rate)
    p_value = (1 + int(np.sum(statistics >= statistic))) / (1 + len(statistics))
    if p_value < LOWEST_FIT_P_VALUE:
        raise TailError(
            f"the {count} highest scores do not follow a generalised Pareto distribution (Anderson-Darling "
            f"{statistic:.2f}, p = {p_value:.3g}): a threshold read off it would mean nothing; give more images"
        )
    low, high = np.quantile(rates, [0.05, 0.95])
    found = TailFit(
        over=over,
        excesses=count,
        shape=fit.shape,
        scale=fit.scale,
        anderson_darling=statistic,
        fit_p_value=p_value,
        rate_low=float(low),
        rate_high=float(high),
    )
    return over + float(fit.excess(min(1.0, false_reject_rate / share))), found


def _check_reach(n: int, false_reject_rate: float) -> None:
    needed = max(FEWEST_SCORES, math.ceil(1 / (FURTHEST * false_reject_rate) - 1 - 1e-9))
    if n < needed:
        raise TailError(
            f"to extrapolate to a false-reject rate of {false_reject_rate:.4g} needs {needed} good images, found {n}: "
            "give more images or ask for a higher rate"
        )


def _refit(fit: Pareto, n: int, share: float, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """Draw samples from the fit and fit them again: their A², and the true rates of the thresholds read off them."""
    rng = np.random.default_rng(0)
    statistics, rates = [], []
    for count in np.maximum(rng.binomial(n, share, _REFITS), 2):
        sample = fit.excess(1 - rng.random(count))
        again = fit_pareto(sample)
        statistics.append(anderson_darling(sample, again))
        threshold = again.excess(min(1.0, rate * n / count))
        rates.append(share * float(fit.survival(threshold)))
    return np.array(statistics), np.array(rates)
