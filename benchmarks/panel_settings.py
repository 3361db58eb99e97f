"""The settings that the panel compares: presets of patchcore, or NAME:key=value,... of the command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import yaml

from benchmarks.panel_sets import PanelSet
from edgead.dataset.folders import find_good_images

if TYPE_CHECKING:
    from edgead.adapt.training.good_images import Proportions

# A comma separates settings unless it stands in a list: layers=[stride8,stride16].
_COMMA = re.compile(r",(?![^\[]*\])")


@dataclass(frozen=True, slots=True)
class Setting:
    """A detector with all of its settings, under the name that heads its column.

    `own_size`: its image size was named, and is not brought to the proportions of a set's images.
    """

    name: str
    detector: str
    settings: dict[str, Any]
    own_size: bool = False

    def of(self, data: PanelSet) -> dict[str, Any]:
        """The settings as `edgead train` has them for these images."""
        if self.own_size or "fill" not in self.settings:
            return self.settings
        from edgead.adapt.training.good_images import keep_proportions

        return keep_proportions(self.settings, _proportions(data))


def read_presets(text: str) -> list[str]:
    """Split the list of presets and NAME:key=value,... that --presets takes.

    A part after a comma that has a = belongs to the name before it, if that has settings.
    """
    found: list[str] = []
    for part in _COMMA.split(text):
        if "=" in part and ":" not in part.partition("=")[0] and found and ":" in found[-1]:
            found[-1] += f",{part}"
        elif part.strip():
            found.append(part.strip())
    return found


def build_settings(presets: Sequence[str], changes: Sequence[str] = ()) -> list[Setting]:
    """Resolve every setting, defaults included: a default that changes later is another setting.

    Parameters
    ----------
    presets : sequence of str
        A preset of patchcore, or `NAME:key=value,...`; `detector=` and `preset=` in it choose where it starts from.
    changes : sequence of str
        `key=value` on top of each.

    Raises
    ------
    SettingsError
        What no detector or preset has.
    """
    names = [preset.partition(":")[0] for preset in presets]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SystemExit(f"two settings are called {', '.join(twice)}: give each a name of its own")
    return [_resolve(preset, changes) for preset in presets]


def _resolve(text: str, changes: Sequence[str]) -> Setting:
    from edgead.adapt.methods import METHODS, find_preset

    name, colon, given = text.partition(":")
    chosen = dict(map(read_pair, _COMMA.split(given))) if given else {}
    detector = str(chosen.pop("detector", "patchcore"))
    preset = str(chosen.pop("preset", "default" if colon else name))
    given_settings = {**chosen, **dict(map(read_pair, changes))}
    settings = {**find_preset(detector, preset), **given_settings}
    # Random weights: only the settings are asked for, and whether they are possible at all.
    resolved = METHODS[detector].from_settings(settings, pretrained=False).settings()
    return Setting(", ".join([name, *changes]), detector, resolved, "image_size" in given_settings)


@cache
def _proportions(data: PanelSet) -> Proportions:
    from edgead.adapt.training.good_images import find_proportions

    return find_proportions(find_good_images(data.folder))


def read_pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not (key.strip() and equals):
        raise SystemExit(f"{text!r}: expected key=value, such as window=3 or layers=[stride8,stride16]")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise SystemExit(f"{text!r}: the value cannot be read ({error})") from None
