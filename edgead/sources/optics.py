"""Camera, lens and exposure that a smallest defect asks for, by the rules of an ideal lens."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

from edgead.errors import SettingsError

PIXELS_ON_DEFECT = 8.0
"""Of the network's input: dark dots of 9 pixels are all found, of 5 pixels two in three (`benchmarks large_images`)."""
INPUT_SIDES = {"default": 448, "fine": 576}
"""Sides of the square that has as many pixels as the network's input, by preset of `patchcore`, cheapest first."""
TILE_INPUT = 448
SHARE_OF_NEIGHBOURS = 8
"""Neighbouring tiles share an eighth, as `edgead train --tiles` has it."""
BLUR = 0.25
"""Of the smallest defect, that it may move during the exposure."""
SHORTEST_EXPOSURE_US = 10.0
FOCAL_LENGTHS_MM = (6.0, 8.0, 12.0, 16.0, 25.0, 35.0, 50.0, 75.0, 100.0)
F_NUMBER = 5.6
ROOM_MM = 100.0
"""Below the lens, for a light and the part; nearer lenses are named only where such a distance is asked for."""
LIGHTS = {
    "stain, wrong print": "a dome, or diffuse bars all around: even light, no reflections",
    "scratch, burr": "a low ring (dark field): what is whole stays dark",
    "dent, wave": "one bar at a grazing angle, so that forms throw shadows; or heights, `--input relief`",
    "outline, hole": "a light behind the part",
}
"""The light for each kind of defect."""


@dataclass(frozen=True, slots=True)
class Sensor:
    """A global-shutter sensor as many industrial cameras have it: pixels, and the side of a pixel in micrometres."""

    name: str
    width: int
    height: int
    pixel_um: float

    @property
    def width_mm(self) -> float:
        return self.width * self.pixel_um / 1000


SENSORS = (
    Sensor('0.4 MP, 1/2.9"', 720, 540, 6.9),
    Sensor('1.6 MP, 1/2.9"', 1440, 1080, 3.45),
    Sensor('3.1 MP, 1/1.8"', 2048, 1536, 3.45),
    Sensor('5 MP, 2/3"', 2448, 2048, 3.45),
    Sensor('12 MP, 1.1"', 4096, 3000, 3.45),
    Sensor('20 MP, 1.1"', 4512, 4512, 2.74),
    Sensor('24.5 MP, 1.2"', 5328, 4608, 2.74),
)
"""Smallest first."""

_LENGTHS = {"um": 0.001, "mm": 1.0, "cm": 10.0, "m": 1000.0}
_NUMBER = r"(\d+(?:\.\d+)?)"


def read_length(text: str) -> float:
    """Millimetres of `0.2mm`, `30cm`, `50um`, `1m`.

    Raises
    ------
    SettingsError
        It is no length above 0 with its unit.
    """
    found = re.fullmatch(rf"{_NUMBER}\s*(um|mm|cm|m)", text.strip())
    if found is None or float(found[1]) == 0:
        raise SettingsError(f"{text!r} is no length: give a number above 0 with its unit, such as 0.2mm, 8cm or 50um")
    return float(found[1]) * _LENGTHS[found[2]]


def read_view(text: str) -> tuple[float, float]:
    """Width and height in millimetres of `80x60mm`; `80mm` is the longer side of a view of 4 to 3.

    Raises
    ------
    SettingsError
        It is neither.
    """
    sides = re.fullmatch(rf"{_NUMBER}\s*x\s*{_NUMBER}\s*(um|mm|cm|m)", text.strip())
    if sides is None:
        width = read_length(text)
        return width, 0.75 * width
    return read_length(sides[1] + sides[3]), read_length(sides[2] + sides[3])


def read_speed(text: str) -> float:
    """Millimetres a second of `0.5m/s`, `200mm/s`, `12m/min`; 0 of a part that stands still.

    Raises
    ------
    SettingsError
        It is no speed with its unit.
    """
    found = re.fullmatch(rf"{_NUMBER}\s*(um|mm|cm|m)/(s|min)", text.strip())
    if found is None:
        raise SettingsError(f"{text!r} is no speed: give a number with its unit, such as 0.5m/s, 200mm/s or 12m/min")
    return float(found[1]) * _LENGTHS[found[2]] / (60 if found[3] == "min" else 1)


@dataclass(frozen=True, slots=True)
class Lens:
    """A lens with the distance at which it shows the view.

    Attributes
    ----------
    focal_mm : float
    distance_mm : float
        From the part to the lens.
    depth_mm : float
        How much of the part's height is sharp to a pixel, at f/5.6.
    """

    focal_mm: float
    distance_mm: float
    depth_mm: float


@dataclass(frozen=True, slots=True)
class Optics:
    """What a station needs.

    Attributes
    ----------
    sensor : Sensor or None
        The smallest that shows the defect; None where none of `SENSORS` does.
    pixels_across, pixels_down : int
        That the view must have.
    sensor_pixels : float or None
        On the defect, in the camera's image.
    train : str
        Options of `edgead train`.
    tiles : int
        Runs of the network for each frame.
    input_pixels : float or None
        On the defect, in the network's input.
    lenses : tuple of Lens
        Best first; empty without a sensor.
    exposure_us : float or None
        Longest; None where the part stands still.
    notes : tuple of str
        What speaks against the plan.
    """

    sensor: Sensor | None
    pixels_across: int
    pixels_down: int
    sensor_pixels: float | None
    train: str
    tiles: int
    input_pixels: float | None
    lenses: tuple[Lens, ...]
    exposure_us: float | None
    notes: tuple[str, ...] = field(default=())


def plan_optics(
    defect_mm: float, view_mm: tuple[float, float], speed_mm_s: float = 0.0, distance_mm: float | None = None
) -> Optics:
    """Choose sensor, lens, exposure and training.

    Parameters
    ----------
    defect_mm : float
        Smallest extent of the smallest defect that must be found.
    view_mm : (float, float)
        Width and height of what the camera must see.
    speed_mm_s : float
        Of the part during the exposure.
    distance_mm : float, optional
        From the part to the lens, where the station prescribes it.

    Raises
    ------
    SettingsError
        The defect is larger than the view.
    """
    if defect_mm > min(view_mm):
        raise SettingsError(f"a defect of {defect_mm:g} mm is larger than the view, {view_mm[0]:g} x {view_mm[1]:g} mm")
    density = PIXELS_ON_DEFECT / defect_mm
    across, down = (math.ceil(density * side) for side in view_mm)
    sensor = next((one for one in SENSORS if _density(one, view_mm) >= density), None)
    notes = []
    if sensor is None:
        notes.append(
            f"the view needs {across} x {down} pixels, more than one camera of {SENSORS[-1].name} has: "
            "take several cameras, a line-scan camera, or a smaller view"
        )
    exposure = BLUR * defect_mm / speed_mm_s * 1e6 if speed_mm_s else None
    if exposure is not None and exposure < SHORTEST_EXPOSURE_US:
        notes.append(f"an exposure of {exposure:.1f} us is shorter than most cameras have: flash a strobe that briefly")
    train, tiles, seen = _training(defect_mm, view_mm, sensor)
    lenses = _lenses(sensor, view_mm, distance_mm) if sensor else ()
    if sensor and distance_mm and not lenses:
        notes.append(f"no lens of {FOCAL_LENGTHS_MM[0]:g} to {FOCAL_LENGTHS_MM[-1]:g} mm shows the view from there")
    on_sensor = _density(sensor, view_mm) * defect_mm if sensor else None
    return Optics(sensor, across, down, on_sensor, train, tiles, seen, lenses, exposure, tuple(notes))


def _density(sensor: Sensor, view_mm: tuple[float, float]) -> float:
    """Pixels a millimetre, where the camera may be turned by a quarter."""
    longer, shorter = max(view_mm), min(view_mm)
    return min(sensor.width / longer, sensor.height / shorter)


def _training(defect_mm: float, view_mm: tuple[float, float], sensor: Sensor | None) -> tuple[str, int, float | None]:
    """Options of the training, runs of the network, pixels of its input on the defect."""
    for preset, side in INPUT_SIDES.items():
        seen = defect_mm * side / math.sqrt(view_mm[0] * view_mm[1])
        if seen >= PIXELS_ON_DEFECT:
            return f"--preset {preset}", 1, seen
    if sensor is None:
        return "", 0, None
    density = _density(sensor, view_mm)
    side = math.floor(TILE_INPUT * density * defect_mm / PIXELS_ON_DEFECT)
    side = min(side, _whole(density * min(view_mm)))
    tiles = math.prod(_count_tiles(_whole(density * extent), side) for extent in view_mm)
    return f"--tiles {side}", tiles, density * defect_mm * min(1.0, TILE_INPUT / side)


def _whole(pixels: float) -> int:
    """Whole pixels: a sensor's own number, divided and multiplied again, may lie a rounding below itself."""
    return math.floor(pixels + 1e-6)


def _count_tiles(extent: int, side: int) -> int:
    return 1 + math.ceil((extent - side) / (side - side // SHARE_OF_NEIGHBOURS))


def _lenses(sensor: Sensor, view_mm: tuple[float, float], distance_mm: float | None) -> tuple[Lens, ...]:
    """The two lenses whose distance lies nearest to the asked one, or all that leave room; ideal and thin."""
    scale = _density(sensor, view_mm) * sensor.pixel_um / 1000  # mm of the sensor for each mm of the part
    depth = 2 * F_NUMBER * sensor.pixel_um / 1000 * (1 + scale) / scale**2
    lenses = [Lens(focal, focal * (1 + 1 / scale), depth) for focal in FOCAL_LENGTHS_MM]
    if distance_mm is None:
        return tuple(one for one in lenses if one.distance_mm >= ROOM_MM)
    near = [one for one in lenses if 0.5 <= one.distance_mm / distance_mm <= 2]
    return tuple(sorted(near, key=lambda one: abs(math.log(one.distance_mm / distance_mm)))[:2])
