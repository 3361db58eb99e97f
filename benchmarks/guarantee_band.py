"""The band that the mean false-reject rate of random splits lies in, whatever the scores."""

from __future__ import annotations

from math import lgamma

import numpy as np

BAND = 0.999


def mean_band(n: int, m: int, above: float, splits: int) -> tuple[float, float]:
    """Central interval of the mean share of m parts above the order statistic of n that has `above` - 1 above it.

    Where `above` is no whole number, of a share that is beta-distributed like that.

    One split is beta-binomial with `above` and n + 1 - `above`; the sum of the splits is its convolution with itself.
    """
    j = np.arange(m + 1)
    one = np.exp(_log_choose(j + above - 1, j) + _log_choose(m - j + n - above, m - j) - _log_choose(m + n, m))
    length = splits * m + 1
    total = np.fft.irfft(np.fft.rfft(one, length) ** splits, length)
    cumulative = np.cumsum(total)
    tail = (1 - BAND) / 2
    return (
        float(np.searchsorted(cumulative, tail)) / (splits * m),
        float(np.searchsorted(cumulative, 1 - tail)) / (splits * m),
    )


def _log_choose(n: np.ndarray | float, k: np.ndarray | float) -> np.ndarray:
    log_factorial = np.vectorize(lgamma, otypes=[float])
    return log_factorial(np.add(n, 1)) - log_factorial(np.add(k, 1)) - log_factorial(np.subtract(n, k) + 1)
