"""Verb `optics`: camera, lens, exposure and training for a smallest defect."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from edgead.cli.app import Json, app, print_report

if TYPE_CHECKING:
    from rich.table import Table

    from edgead.sources.optics import Optics


@app.command()
def optics(
    defect: Annotated[str, typer.Option(help="Narrowest side of the smallest defect that must be found: 0.2mm.")],
    view: Annotated[str, typer.Option(help="What the camera must see: 80x60mm, or its longer side, 80mm.")],
    speed: Annotated[
        str | None,
        typer.Option(help="Speed of the part below the camera: 0.5m/s, 12m/min; by default it stands still."),
    ] = None,
    distance: Annotated[
        str | None, typer.Option(help="From the part to the lens: 300mm; by default every lens is listed.")
    ] = None,
    json: Json = False,
) -> None:
    """Choose a camera: which sensor, lens, light, exposure and preset show a defect of a size."""
    from edgead.sources.optics import plan_optics, read_length, read_speed, read_view

    plan = plan_optics(
        read_length(defect),
        read_view(view),
        read_speed(speed) if speed else 0.0,
        read_length(distance) if distance else None,
    )
    print_report(asdict(plan), json, lambda: _table(plan))


def _table(plan: Optics) -> Table:
    from rich.table import Table

    table = Table("", "", box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    for row in _rows(plan):
        table.add_row(*row)
    return table


def _rows(plan: Optics) -> list[tuple[str, str]]:
    from edgead.sources.optics import LIGHTS

    rows = [("pixels of the view", f"{plan.pixels_across} x {plan.pixels_down} at least")]
    if plan.sensor:
        one = plan.sensor
        rows.append(("sensor", f"{one.name}, {one.width} x {one.height} px of {one.pixel_um:g} um, global shutter"))
        rows.append(("on the defect", f"{plan.sensor_pixels:.1f} px of the camera's image"))
    if plan.train:
        runs = "the whole image" if plan.tiles == 1 else f"{plan.tiles} tiles, each a run of the network"
        rows.append(("train with", f"edgead train GOOD -o MODEL {plan.train}   ({runs})"))
        rows.append(("", f"{plan.input_pixels:.1f} px of the network's input on the defect"))
    for number, lens in enumerate(plan.lenses):
        sharp = f"sharp over {lens.depth_mm:.1f} mm at f/5.6"
        rows.append(
            ("" if number else "lens", f"{lens.focal_mm:g} mm, {lens.distance_mm:.0f} mm above the part; {sharp}")
        )
    if plan.exposure_us is not None:
        rows.append(("exposure", f"{plan.exposure_us:.0f} us at most: the part moves by a quarter of the defect"))
    for number, (defect, light) in enumerate(LIGHTS.items()):
        rows.append(("" if number else "light", f"{defect}: {light}"))
    return [*rows, *(("note", note) for note in plan.notes)]
