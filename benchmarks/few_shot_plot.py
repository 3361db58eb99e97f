"""The curves of `benchmarks few_shot`: a panel for each set, a line for each augmentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.panel_sets import LABELS
from benchmarks.plots import STYLE, save

COLUMNS = 3
# Okabe and Ito's colours, and a shape of its own for each.
LINES = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"))

Draws = Callable[[str, str, int], Sequence[float]]


def write(sets: Sequence[str], kinds: Mapping[str, str], counts: Sequence[int], draws: Draws, file: Path) -> None:
    """Write the curves as SVG.

    Parameters
    ----------
    sets : sequence of str
    kinds : mapping of str to str
        The augmentations, and what the legend calls them; at most three.
    counts : sequence of int
        Numbers of good images.
    draws : callable
        Gives the image AUROC of each draw of a set, augmentation and number.
    file : Path
    """
    rows = -(-len(sets) // COLUMNS)
    with plt.rc_context(STYLE):
        figure, panels = plt.subplots(
            rows, COLUMNS, figsize=(9, 0.6 + 2.5 * rows), sharey=True, layout="constrained", squeeze=False
        )
        for axes, name in zip(panels.flat, sets, strict=False):
            for (kind, label), (colour, marker) in zip(kinds.items(), LINES, strict=False):
                _curve(axes, [draws(name, kind, count) for count in counts], counts, (label, colour, marker))
            axes.set_title(LABELS.get(name, name))
            axes.grid(color="#eeeeee")
            axes.set_xscale("log", base=2)
            axes.set_xticks(counts, [str(count) for count in counts])
            axes.set_xlabel("good images")
        for axes in panels.flat[len(sets) :]:
            axes.set_axis_off()
        for axes in panels[:, 0]:
            axes.set_ylabel("image AUROC")
        figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=len(kinds))
        save(figure, file)


def _curve(axes: Axes, found: Sequence[Sequence[float]], counts: Sequence[int], style: tuple[str, str, str]) -> None:
    """The mean over the draws, and from the lowest to the highest."""
    label, colour, marker = style
    known = [(count, values) for count, values in zip(counts, found, strict=True) if values]
    at = [count for count, _ in known]
    axes.plot(at, [np.mean(values) for _, values in known], color=colour, marker=marker, markersize=4, label=label)
    low, high = ([pick(values) for _, values in known] for pick in (min, max))
    axes.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
