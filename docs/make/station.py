"""Drawings of a camera station: four lights, and a line with camera, light barrier, computer and gate."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Arc, FancyBboxPatch, Polygon, Rectangle

PART, LIGHT, RAY, CASE = "#9aa5b1", "#e9a820", "#f2c84b", "#2f3e4e"
FRAME = {"color": CASE, "zorder": 3}


def lights(axes: Axes) -> None:
    """Draw camera, light and part from the side, for four kinds of defects."""
    drawn = ((_dome, "stain, wrong print", "dome"), (_dark_field, "scratch, burr", "low ring, dark field"))
    drawn += ((_grazing, "dent, wave", "bar at a grazing angle"), (_back, "outline, hole", "light behind the part"))
    for number, (draw, defect, light) in enumerate(drawn):
        x = 4.0 * number
        _camera(axes, x, 5.2)
        draw(axes, x)
        axes.text(x, -1.1, defect, ha="center", fontsize=10, fontweight="bold")
        axes.text(x, -1.65, light, ha="center", fontsize=8.5)
    _bare(axes, (-2, 14), (-2, 6.6))


def station(axes: Axes) -> None:
    """Draw the devices along a conveyor and their wires."""
    axes.add_patch(Rectangle((-4, -0.25), 16, 0.25, color=PART))
    axes.annotate("", (-1.2, 1.0), (-3.4, 1.0), arrowprops={"arrowstyle": "->", "color": CASE})
    axes.text(-2.3, 1.15, "speed", ha="center", fontsize=9)
    for x, colour in ((-2.6, PART), (1.0, PART), (5.2, PART), (9.0, "#d1495b")):
        axes.add_patch(Rectangle((x - 0.5, 0), 1, 0.5, color=colour))
    for side in (-0.9, 0.9):  # of the light barrier
        axes.add_patch(Rectangle((0.1, 0.25 + side - 0.15), 0.35, 0.3, **FRAME))
    axes.plot([0.27, 0.27], [-0.5, 1.0], color="#d1495b", lw=1, ls=":")
    axes.text(0.27, 1.45, "light barrier", ha="center", fontsize=9)
    _camera(axes, 1.0 + 2.4, 4.6)
    axes.text(5.0, 5.2, "camera and light, in a hood", fontsize=9)
    for side in (-1, 1):
        axes.add_patch(Rectangle((3.4 + side * 1.2 - 0.35, 2.3), 0.7, 0.2, color=LIGHT))
    axes.plot([2.0, 2.0, 4.8, 4.8], [1.2, 5.6, 5.6, 1.2], color=CASE, lw=1, ls="--")
    axes.add_patch(Polygon([(3.4, 3.8), (2.7, 0.5), (4.1, 0.5)], color=RAY, alpha=0.4, lw=0))
    _box(axes, (6.2, 3.2), "computer\nwith edgead")
    _box(axes, (9.4, 3.2), "PLC")
    for start, end in (((4.0, 4.6), (6.2, 3.9)), ((8.2, 3.6), (9.4, 3.6)), ((10.3, 3.2), (10.3, 1.2))):
        axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": CASE, "lw": 1.2})
    axes.plot([0.27, 0.27, 12.2, 12.2], [-0.8, -1.0, -1.0, 3.65], color=CASE, lw=0.8, ls=":")
    axes.annotate("", (11.45, 3.65), (12.2, 3.65), arrowprops={"arrowstyle": "->", "color": CASE, "lw": 0.8})
    axes.add_patch(Rectangle((10.2, 0.55), 0.2, 0.65, **FRAME))
    axes.text(10.6, 1.0, "gate", fontsize=9)
    _bare(axes, (-4, 12.4), (-1.2, 6))


def _bare(axes: Axes, across: tuple[float, float], up: tuple[float, float]) -> None:
    axes.set(xlim=across, ylim=up, xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set_visible(False)


def _camera(axes: Axes, x: float, y: float) -> None:
    """Draw a camera that looks down; the front of its lens is 0.6 below `y`."""
    axes.add_patch(Rectangle((x - 0.45, y), 0.9, 0.9, **FRAME))
    axes.add_patch(Rectangle((x - 0.3, y - 0.6), 0.6, 0.6, color="#5b6b7a", zorder=3))


def _part(axes: Axes, x: float) -> None:
    axes.add_patch(Rectangle((x - 1, -0.3), 2, 0.3, color=PART))


def _box(axes: Axes, corner: tuple[float, float], text: str) -> None:
    axes.add_patch(FancyBboxPatch(corner, 2, 0.9, boxstyle="round,pad=0.05", facecolor="white", edgecolor=CASE))
    axes.text(corner[0] + 1, corner[1] + 0.45, text, ha="center", va="center", fontsize=9)


def _rays(axes: Axes, rays: list[tuple[float, float, float, float]]) -> None:
    for x0, y0, x1, y1 in rays:
        axes.annotate("", (x1, y1), (x0, y0), arrowprops={"arrowstyle": "->", "color": RAY, "lw": 1.3})


def _dome(axes: Axes, x: float) -> None:
    _part(axes, x)
    for start, end in ((12, 78), (102, 168)):  # the camera looks through the hole
        axes.add_patch(Arc((x, 0.2), 3.4, 5.4, theta1=start, theta2=end, color=LIGHT, lw=5))
    angles = np.deg2rad([25, 55, 125, 155])
    _rays(axes, [(x + 1.5 * np.cos(a), 0.2 + 2.4 * np.sin(a), x + 0.5 * np.cos(a), 0.1) for a in angles])


def _dark_field(axes: Axes, x: float) -> None:
    _part(axes, x)
    for side in (-1, 1):
        axes.add_patch(Rectangle((x + side * 1.55 - 0.15, 0.1), 0.3, 0.6, color=LIGHT))
        _rays(axes, [(x + side * 1.35, 0.45, x + side * 0.3, 0.02)])
    axes.plot([x - 0.1, x, x + 0.1], [0, -0.15, 0], color="white", lw=1.5)
    _rays(axes, [(x, 0.05, x, 4.4)])


def _grazing(axes: Axes, x: float) -> None:
    _part(axes, x)
    axes.add_patch(Arc((x, 0), 0.8, 0.4, theta1=180, theta2=360, color="white", lw=2))
    axes.add_patch(Rectangle((x - 1.75, 0.5), 0.3, 0.9, color=LIGHT, angle=-20))
    _rays(axes, [(x - 1.3, 1.1, x + 0.3, 0.0), (x - 1.3, 0.7, x - 0.3, 0.0)])


def _back(axes: Axes, x: float) -> None:
    axes.add_patch(Rectangle((x - 1.4, -0.7), 2.8, 0.25, color=LIGHT))
    for left in (-1.0, 0.3):
        axes.add_patch(Rectangle((x + left, 0.2), 0.7, 0.3, color=PART))
    _rays(axes, [(x + at, -0.4, x + at, 1.6) for at in (-1.2, 0.0, 1.2)])
    _rays(axes, [(x + at, -0.4, x + at, 0.15) for at in (-0.65, 0.65)])
