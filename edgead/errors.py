"""Base classes of edgead's errors, whose messages say what was found and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any


class EdgeadError(ValueError):
    """Error that the user can fix; the command line prints the message without a traceback."""


class SettingsError(EdgeadError):
    """Setting, option or name that cannot be used."""


class NotNowError(EdgeadError):
    """Request that cannot be served now and was not begun: try again later."""


class NoVerdictInTimeError(EdgeadError):
    """Accepted image whose verdict did not come in time; a later verdict is still recorded."""


def suggestion(word: object, known: Iterable[object]) -> str:
    """Suggest the known name that a mistyped word may stand for; empty if none is close."""
    near = get_close_matches(str(word), map(str, known), 1)
    return f"; did you mean {near[0]}?" if near else ""


def tell_invalid(errors: Iterable[Mapping[str, Any]], *, whole: str = "") -> str:
    """Format pydantic's errors, each with its location; values are not quoted, as they may be secrets.

    Parameters
    ----------
    errors : iterable of mappings
        Result of a validation error's `errors()`.
    whole : str
        Name for the location of errors that concern the whole content.
    """
    return "; ".join(f"{'.'.join(map(str, error['loc'])) or whole}: {invalid_reason(error)}" for error in errors)


_SECTION, _LIST, _TEXT = "a section of `key: value` lines", "a list, such as [a, b]", "text"
# Keyed by the prefix of pydantic's error types.
_EXPECTED = {
    "tuple_": _LIST, "list_": _LIST, "set_": _LIST,
    "dict_": _SECTION, "model_": _SECTION, "mapping_": _SECTION,
    "string_type": _TEXT, "path_type": _TEXT,
    "int_": "a whole number", "float_": "a number", "finite_number": "a finite number", "bool_": "true or false",
}  # fmt: skip
_BOUNDS = {
    "greater_than": "must be above {gt:.10g}",
    "greater_than_equal": "must be at least {ge:.10g}",
    "less_than": "must be below {lt:.10g}",
    "less_than_equal": "must be at most {le:.10g}",
    "too_short": "needs at least {min_length}, found {actual_length}",
    "too_long": "takes at most {max_length}, found {actual_length}",
    "string_too_short": "needs at least {min_length} characters",
    "string_too_long": "takes at most {max_length} characters",
    "string_pattern_mismatch": "does not match the pattern {pattern}",
    "literal_error": "must be {expected}",
    "missing": "is missing",
    "extra_forbidden": "unknown key",
    "union_tag_not_found": "{discriminator} is missing",
}
_FOUND = {str: "text", bool: "true or false", dict: "a section", list: "a list", type(None): "nothing"}


def invalid_reason(error: Mapping[str, Any]) -> str:
    """Describe what is wrong with a value, for one of pydantic's errors."""
    kind, context = error["type"], error.get("ctx", {})
    if kind == "string_too_short" and context["min_length"] == 1:
        return "must not be empty"
    if kind in _BOUNDS:
        return _BOUNDS[kind].format_map(context)
    if kind == "union_tag_invalid":
        tag, known = context["tag"], context["expected_tags"].replace("'", "")
        return f"unknown kind {tag!r}; known are {known}{suggestion(tag, known.split(', '))}"
    for beginning, expected in _EXPECTED.items():
        if kind.startswith(beginning):
            found = _FOUND.get(type(error.get("input")), "a number")
            return f"must be {expected}, found {found if found != expected else 'other text'}"
    return error["msg"].removeprefix("Value error, ").replace("Input should be", "must be", 1)
