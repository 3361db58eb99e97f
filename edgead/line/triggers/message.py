"""Parser of the part that a message names."""

from __future__ import annotations

import json

from edgead.types import NO_PART, Part

_KEYS = ("serial", "batch", "recipe")
_MAX_BYTES = 4096


def part_of(message: bytes) -> Part:
    """Parse a part from a message: a JSON object with the keys of `Part`, or plain text, its serial number.

    Raises
    ------
    ValueError
        It is neither: it begins as JSON but is not such an object, or a value does not fit a Part. The message
        is not quoted, since it may be anything.

    Examples
    --------
    >>> part_of(b"A-0017")
    Part(serial='A-0017', batch='', recipe='')
    >>> part_of(b'{"serial": 17, "recipe": "left door"}')
    Part(serial='17', batch='', recipe='left door')
    """
    if len(message) > _MAX_BYTES:
        raise ValueError(f"{len(message)} bytes, at most {_MAX_BYTES} are read")
    try:
        text = message.decode().strip()
    except UnicodeDecodeError:
        raise ValueError("no UTF-8") from None
    if not text.startswith(("{", "[", '"')):
        return Part(text) if text else NO_PART
    try:
        content = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        raise ValueError("begins as JSON, and is none") from None
    if not isinstance(content, dict):
        raise ValueError(f"JSON, but no object with {', '.join(_KEYS)}")
    unknown = [key for key in content if key not in _KEYS]
    if unknown:
        raise ValueError(f"{len(unknown)} unknown keys: known are {', '.join(_KEYS)}")
    return Part(**{key: _text(key, value) for key, value in content.items()})


def _text(key: str, value: object) -> str:
    # PLC programs send numbers as numbers; True is an int too.
    if isinstance(value, str | int) and not isinstance(value, bool):
        return str(value).strip()
    raise ValueError(f"{key} is neither text nor a whole number")
