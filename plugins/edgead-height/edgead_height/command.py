"""Command `heights`, which makes height maps of point clouds and of stereo images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, cast

import numpy as np
import typer

from edgead.cli.app import Json, app, print_report, read_setting
from edgead.cli.console import edgead_command, facts_table, stage_bars, stderr
from edgead.errors import SettingsError
from edgead.files.atomic import new_folder
from edgead.images.files import ImageError, write_image
from edgead_height.cloud_maps import Area, Grid, Z, find_grid, height_maps
from edgead_height.clouds import list_clouds

HEIGHTS, COLOURS = "heights", "colours"
EXAMPLES = (
    "edgead heights clouds -o maps --mm-per-pixel 0.2",
    "edgead heights --stereo left right -o maps --set baseline_mm=60 --set focal_px=1200",
)


HeightsGrow = Literal["up", "away"]


class _Named(NamedTuple):
    """Height map, float32 (h, w) in mm, with its name and, if any, its image."""

    name: str
    mm: np.ndarray
    image: np.ndarray | None


@app.command(epilog="\n\n".join(("Examples:", *EXAMPLES)))
def heights(
    cloud: Annotated[
        list[Path] | None,
        typer.Argument(help="Point clouds, or folders of them: TIFF of x, y, z in three channels, PLY, PCD."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="New folder for the maps, in heights/, and images, in colours/.")
    ] = Path("height_maps"),
    stereo: Annotated[
        tuple[Path, Path] | None,
        typer.Option(help="Instead of clouds: folders of images of a left and a right camera, or two videos."),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", help="With --stereo: NAME=VALUE of the source stereo, such as baseline_mm=60."),
    ] = None,
    mm_per_pixel: Annotated[
        float | None,
        typer.Option(
            min=1e-6,
            help="Pixel size of maps from above; by default organised clouds keep their own grid, and others get "
            "four points a pixel.",
        ),
    ] = None,
    area: Annotated[
        str | None,
        typer.Option(help="With --mm-per-pixel: area of the maps, X0,Y0,X1,Y1 in mm; by default that of all points."),
    ] = None,
    mm_per_unit: Annotated[float, typer.Option(min=1e-9, help="Millimetres of a cloud's unit: 1000 for metres.")] = 1.0,
    z: Annotated[
        HeightsGrow, typer.Option(help="Direction of z: up, towards the viewer, or away from the camera.")
    ] = "up",
    json: Json = False,
) -> None:
    """Make height maps of point clouds or of stereo images, for `edgead train --input relief`."""
    if bool(cloud) == (stereo is not None):
        raise SettingsError("name point clouds, or two folders with --stereo")
    if stereo is None and setting:
        raise SettingsError("--set is of --stereo: leave it out")
    if stereo is not None and (mm_per_pixel, area, mm_per_unit, z) != (None, None, 1.0, "up"):
        raise SettingsError("--mm-per-pixel, --area, --mm-per-unit and --z are of point clouds: leave them out")
    if area is not None and mm_per_pixel is None:
        raise SettingsError("--area needs --mm-per-pixel: how large a pixel of the map is")
    report: dict[str, Any] = {"folder": str(output)}
    if stereo is not None:
        maps = _of_pairs(stereo, dict(map(read_setting, setting or [])), report)
    else:
        paths, grows = list_clouds(cloud or []), cast("Z", z)
        if area is not None and mm_per_pixel is not None:
            grid: Grid | None = Grid(_read_area(area), mm_per_pixel)
        else:
            with stage_bars() as progress:
                grid = find_grid(paths, mm_per_pixel=mm_per_pixel, mm_per_unit=mm_per_unit, z=grows, progress=progress)
        maps = _of_clouds(paths, grid, mm_per_unit, grows, organised=mm_per_pixel is None, report=report)
    report |= _written(maps, output)
    print_report(report, json, lambda: facts_table("height maps", report))
    if report.get("dropped"):
        stderr.print(f"warning: {report['dropped']} images had no like and were left out", style="yellow")
    if not json:
        if "grid" in report:
            print(f"Further clouds of such parts come on the same grid by {report['grid']}")
        print("Learn from maps of good parts:")
        print(edgead_command("train", output / HEIGHTS, "-o", "model", "--input", "relief", "--mm-per-count", "1"))


def _written(maps: Iterator[_Named], output: Path) -> dict[str, Any]:
    """Write maps into a folder, which appears only when all are written."""
    known: list[float] = []
    try:
        with new_folder(output) as folder:
            for one in maps:
                write_image(folder / HEIGHTS / f"{one.name}.tiff", one.mm)
                if one.image is not None:
                    write_image(folder / COLOURS / f"{one.name}.png", one.image)
                known.append(float(np.isfinite(one.mm).mean()))
            if not known:
                raise ImageError("no pair of images belongs together: nothing is written")
    except FileExistsError as error:
        raise SettingsError(str(error)) from None
    return {"maps": len(known), "known": round(float(np.mean(known)), 4)}


def _of_pairs(folders: tuple[Path, Path], settings: dict[str, Any], report: dict[str, Any]) -> Iterator[_Named]:
    from edgead.sources import SOURCES, open_source
    from edgead.sources.live import LiveLimits
    from edgead.types import VALUES
    from edgead_height.source import StereoSource

    options = SOURCES.all()["stereo"].read(settings, "--stereo")
    sources = (open_source(folders[0]), open_source(folders[1]))
    with closing(StereoSource("|".join(map(str, folders)), sources, options, LiveLimits())) as pairs:
        for frame in pairs:
            yield _Named(Path(frame.name).stem or f"{frame.number:06d}", frame.others[VALUES], frame.image)
        report["dropped"] = pairs.unpaired


def _of_clouds(
    paths: list[Path], grid: Grid | None, mm_per_unit: float, z: Z, *, organised: bool, report: dict[str, Any]
) -> Iterator[_Named]:
    own = set()
    for path, found in height_maps(paths, grid, mm_per_unit=mm_per_unit, z=z, organised=organised):
        own.add(float(f"{found.mm_per_pixel:.3g}"))
        yield _Named(path.stem, found.mm, found.image)
    report["mm_per_pixel"] = sorted(own)
    if grid is not None:
        area = ",".join(f"{side:.6g}" for side in grid.area)
        report["grid"] = f"--mm-per-pixel {grid.mm_per_pixel:g} --area={area}"


def _read_area(text: str) -> Area:
    try:
        area = Area(*map(float, text.split(",")))
    except (TypeError, ValueError):
        raise SettingsError(f"--area {text!r}: expected X0,Y0,X1,Y1 in mm") from None
    if not (np.isfinite(area).all() and area.x0 < area.x1 and area.y0 < area.y1):
        raise SettingsError(f"--area {text!r}: X1 and Y1 must be above X0 and Y0")
    return area
