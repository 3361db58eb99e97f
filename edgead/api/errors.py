"""Errors of the Python interface: they name its parameters in place of options of the command line."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from edgead.errors import EdgeadError, SettingsError
from edgead.process.installation import install_command

P = ParamSpec("P")
R = TypeVar("R")

# Text in quotes is a command for a terminal, where options are right.
_COMMAND_OR_OPTION = re.compile(r"""(`[^`]*`|"edgead [^"]*")|(?<![\w-])--([a-z][a-z0-9-]*)""")


def names_parameters(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function: its errors name parameters (`skip_bad`) in place of options, and what is not installed."""

    @functools.wraps(function)
    def named(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except EdgeadError as error:
            error.args = tuple(in_python(said) if isinstance(said, str) else said for said in error.args)
            raise
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("edgead"):
                raise
            raise SettingsError(f"{error.name} is missing: this needs `{install_command('train')}`") from error

    return named


def in_python(message: str) -> str:
    """Replace the options in a message by the parameters of the same name.

    >>> in_python("if they are good, take them with --accept-outliers")
    'if they are good, take them with accept_outliers'
    """
    return _COMMAND_OR_OPTION.sub(lambda found: found[1] or found[2].replace("-", "_"), message)
