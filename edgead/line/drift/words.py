"""Texts of drift warnings for the person at the line."""

from __future__ import annotations

from collections.abc import Mapping

from edgead.line.drift.betting import Change

# Words for each channel's change; "more spread" and "less spread" have general ones if the channel has none.
_WORDS: dict[str, dict[Change, str]] = {
    "scores": {"higher": "parts that pass score higher", "lower": "parts that pass score lower"},
    "scores beside good images": {"higher": "parts that pass score higher than the good images did"},
    "map level": {"higher": "heat maps are warmer all over", "lower": "heat maps are cooler all over"},
    "flagged parts": {"higher": "more parts than usual are rejected or sent to review"},
    "brightness": {"higher": "brighter", "lower": "darker"},
    "sharpness": {"higher": "sharper", "lower": "less sharp"},
    "place across": {"higher": "moved to the right", "lower": "moved to the left"},
    "place down": {"higher": "moved down", "lower": "moved up"},
}
_SPREAD: dict[Change, str] = {"more spread": "varies more", "less spread": "varies less"}
_OF_SPREAD = {
    "scores": "the score of parts that pass",
    "map level": "the warmth of heat maps",
    "place across": "place from left to right",
    "place down": "place from top to bottom",
}


def drift_reason(changed: Mapping[str, Change], *, camera: bool | None) -> str:
    """Describe a change in plain words.

    `changed`: changes by channel of the watch.
    `camera`: whether these are the camera's channels; None if no images were measured.
    """
    what = {
        True: "the camera's images look different",
        False: "parts look different, while light, focus and position are as before",
        None: "parts look different, or the camera's images do",
    }[camera]
    return f"{what} ({', '.join(_of(name, change) for name, change in changed.items())})"


def _of(name: str, change: Change) -> str:
    words = _WORDS.get(name, {}).get(change)
    return words or f"{_OF_SPREAD.get(name, name)} {_SPREAD.get(change, change)}"
