"""Period of a repeated motion, and the position of each frame in its cycle, from the look of the frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgead.errors import SettingsError
from edgead.heads.cycle import LONGEST, SHORTEST, STEPS, Moments, PlacedRows

# Fewest cycles that show a period: a single repetition may be chance.
FEWEST_CYCLES = 3
# Numbers that represent a frame; random sums keep the distances of frames (Johnson and Lindenstrauss, 1984).
_SUMS = 64
# Least difference between the correlation at a period and the lowest one at shorter lags.
_CLEAR = 0.2
# Of several possible periods the shortest counts that is nearly as clear as the clearest.
_AS_CLEAR = 0.9


def find_period(streams: Sequence[np.ndarray]) -> float:
    """Find the period of a motion, in frames, by the autocorrelation of the features of its frames.

    `streams` (sequence of ndarray of shape (n, d), float32): features of the frames of each stream, in order.
    Returns length of a cycle in frames.
    Raises SettingsError: the longest stream has fewer than three cycles, or nothing in it repeats.
    """
    longest = max(streams, key=len)
    if len(longest) < FEWEST_CYCLES * SHORTEST:
        raise SettingsError(
            f"the longest video has {len(longest)} frames: {FEWEST_CYCLES} cycles, each of {SHORTEST} frames or more, "
            "are needed to find a period; record at least 20 cycles"
        )
    alike = autocorrelation(longest, len(longest) // 2)
    last = min(len(longest) // FEWEST_CYCLES, LONGEST)
    peaks = [
        lag for lag in range(SHORTEST, min(last, len(alike) - 2) + 1) if alike[lag - 1] < alike[lag] >= alike[lag + 1]
    ]
    clear = {lag: float(alike[lag] - alike[:lag].min()) for lag in peaks}
    if not clear or max(clear.values()) < _CLEAR:
        raise SettingsError(
            f"nothing in {len(longest)} frames comes again with a period of {SHORTEST} to {last} frames: let the video "
            f"show at least {FEWEST_CYCLES} whole cycles, better 20, keep what does not repeat out of it with --roi, "
            "or give --period"
        )
    first = next(lag for lag in peaks if clear[lag] >= _AS_CLEAR * max(clear.values()))
    first = max((lag for lag in peaks if first <= lag <= 1.2 * first), key=lambda lag: alike[lag])
    return _refined(alike, first, clear[first])


def autocorrelation(rows: np.ndarray, most: int) -> np.ndarray:
    """Correlations, float64 (most + 1,), of rows (n, d) that are 0 to `most` rows apart."""
    rng = np.random.default_rng(0)
    summed = (rows - rows.mean(axis=0)) @ rng.normal(size=(rows.shape[1], _SUMS)).astype(np.float32)
    times = np.linspace(-1, 1, len(summed))
    summed = summed - np.polynomial.polynomial.polyval(times, np.polynomial.polynomial.polyfit(times, summed, 2)).T
    spectrum = np.fft.rfft(summed, 2 * len(summed), axis=0)
    products = np.fft.irfft((spectrum * spectrum.conj()).sum(axis=1), 2 * len(summed))[: most + 1]
    squares = np.concatenate([[0.0], np.cumsum(np.square(summed).sum(axis=1))])
    lags = np.arange(most + 1)
    lengths = np.sqrt(squares[len(summed) - lags] * (squares[-1] - squares[lags]))
    return np.asarray(products / np.maximum(lengths, np.finfo(np.float64).tiny))


def _refined(alike: np.ndarray, first: int, clear: float) -> float:
    """Refine the period by n cycles together: rounding to whole frames then costs only 1/n of a frame per cycle."""
    period = _top(alike, first)
    count = 2
    while (lag := round(count * period)) < len(alike) - 1:
        aside = max(1, round(0.1 * period))
        low, high = max(1, lag - aside), min(lag + aside, len(alike) - 2)
        lag = low + int(alike[low : high + 1].argmax())
        if not alike[lag - 1] < alike[lag] >= alike[lag + 1] or alike[lag] < alike[first] - clear / 2:
            break
        period = _top(alike, lag) / count
        count += 1
    return period


def _top(alike: np.ndarray, lag: int) -> float:
    """Position of the top of the parabola through a peak and its two neighbours."""
    before, at, after = alike[lag - 1 : lag + 2]
    bend = before - 2 * at + after
    return lag + (0.5 * float((before - after) / bend) if bend < 0 else 0.0)


def find_phases(streams: Sequence[np.ndarray], period: float, grid: tuple[int, int]) -> tuple[float, list[np.ndarray]]:
    """Find the moment in the cycle of each frame: compare frames with one cycle first, then with all cycles.

    `streams`: sequence of ndarray of shape (n, h w d), float32.
    `period`: approximate length of a cycle in frames.
    Returns mean length of a cycle in frames.
    Returns list of ndarray of shape (n,), float64: position of each frame, counted in cycles from the start of the
        first frame's cycle; never decreasing.
    """
    longest = max(streams, key=len)
    start = max(0, round((len(longest) - period) / 2))
    rows = longest[start : start + max(1, round(period))]
    phases = np.arange(len(rows)) / period % 1
    for reach in (0.5, 1.0):
        moments, bank = Moments(period, reach, phases), PlacedRows(rows, grid)
        found = [_way(stream, moments, bank) for stream in streams]
        # The second time frames are compared with all cycles, as in the bank, but with no more rows than needed.
        step = max(1, sum(map(len, streams)) // round(max(10 * period, 500)))
        rows, phases = np.concatenate(streams)[::step], np.concatenate(found)[::step] % 1
    went = sum(way[-1] - way[0] for way in found)
    frames = sum(len(way) - 1 for way in found)
    return (frames / went if went > 0 else period), found


def _way(frames: np.ndarray, moments: Moments, bank: PlacedRows) -> np.ndarray:
    """Find the cheapest path of a whole stream through the cycle: each frame's position in cycles, float64 (n,)."""
    costs = np.zeros(moments.count, np.float32)
    steps = np.zeros((len(frames), moments.count), np.int8)
    for number, frame in enumerate(frames):
        if number:
            costs, steps[number] = moments.go_on(costs)
        costs = costs + moments.at_moments(bank.distances(frame).sum(axis=1))
        costs -= costs.min()
    moment = int(costs.argmin())
    went = np.zeros(len(frames), np.int64)
    for number in range(len(frames) - 1, 0, -1):
        went[number] = STEPS[steps[number, moment]]
        moment = (moment - int(went[number])) % moments.count
    return np.asarray((moment + np.cumsum(went)) / moments.count)
