"""The one root of edgead's own errors: the message says what was found and what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class EdgeadError(ValueError):
    """Something that the user can fix; the command line prints the message without a traceback."""


class SettingsError(EdgeadError):
    """A setting, option or name that cannot be used."""


def tell_invalid(errors: Iterable[Mapping[str, Any]], *, whole: str = "") -> str:
    """Report what pydantic found, each by its place; values are not quoted, as they may be secrets.

    Parameters
    ----------
    errors : iterable of mappings
        A validation error's `errors()`.
    whole : str
        What a place is called that is none within the content.
    """
    return "; ".join(f"{'.'.join(map(str, error['loc'])) or whole}: {_reason(error)}" for error in errors)


def _reason(error: Mapping[str, Any]) -> str:
    return "unknown key" if error["type"] == "extra_forbidden" else error["msg"].removeprefix("Value error, ")
