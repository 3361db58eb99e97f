"""Verb `presets`: the detectors, and their named settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgead.adapt.training import AUTO, AUTO_DETECTOR
from edgead.cli.app import Json, app
from edgead.cli.console import print_json, stdout
from edgead.errors import SettingsError

if TYPE_CHECKING:
    from rich.table import Table

_AUTO_PURPOSE = "default, or fast where a frame of default would take over 100 ms on this machine"


@app.command()
def presets(json: Json = False) -> None:
    """List the detectors and presets of `edgead train`, with the purpose of each."""
    from edgead.adapt.methods import METHODS

    if json:
        print_json({name: _about(name) for name in METHODS})
    else:
        stdout.print(_table())


def _about(detector: str) -> dict[str, Any]:
    from edgead.adapt.methods import METHODS

    try:
        method = METHODS.find(detector)
    except SettingsError as error:  # of another package; the others are there all the same
        return {"purpose": str(error), "presets": {}}
    named: dict[str, Any] = {
        name: {"purpose": method.preset_purposes.get(name, ""), "settings": settings}
        for name, settings in method.presets.items()
    }
    if detector == AUTO_DETECTOR:
        named[AUTO] = {"purpose": _AUTO_PURPOSE, "settings": None}
    return {"purpose": method.purpose or (method.__doc__ or "").strip().partition("\n")[0], "presets": named}


def _table() -> Table:
    from rich.table import Table

    from edgead.adapt.methods import METHODS
    from edgead.adapt.methods.outline import read_outline

    table = Table("--detector", "--preset", "take it for", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name, place in METHODS.places().items():
        outline = read_outline(place)
        if outline is None:  # importing the method would import torch, which takes seconds
            about = _about(name)
            purpose, presets = about["purpose"], {preset: of["purpose"] for preset, of in about["presets"].items()}
        else:
            of_machine = {AUTO: _AUTO_PURPOSE} if name == AUTO_DETECTOR else {}
            purpose, presets = outline.purpose, {**outline.presets, **of_machine}
        table.add_row(name, "", purpose)
        for preset, take_it_for in presets.items():
            table.add_row("", preset, take_it_for)
    return table
