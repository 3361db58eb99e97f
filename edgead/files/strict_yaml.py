"""A YAML file of someone who may be careless or hostile: read in bounded time and memory; a refusal says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from edgead.errors import SettingsError
from edgead.files.regular import UnreadableFileError, read_regular

_MOST_BYTES = 2**20
_MOST_DEPTH = 32


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases, which let a small file stand for a huge or an endless one, and of limited depth."""

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(
                problem="aliases (*name) are refused: write it out", problem_mark=event.start_mark
            )
        if self._depth >= _MOST_DEPTH:
            problem = f"nested more than {_MOST_DEPTH} levels deep"
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


def load_yaml(path: Path) -> Any:
    """Read one document from a regular file of at most 1 MiB.

    Raises
    ------
    SettingsError
        It cannot be read, or is no YAML, with the line; an alias, a text that no file name and no host can be.
    """
    try:
        content = yaml.load(read_regular(path, _MOST_BYTES).decode("utf-8"), _PlainLoader)
    except UnreadableFileError as error:
        raise SettingsError(f"{path}: {error}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise SettingsError(f"{path}{where}: is no YAML: {getattr(error, 'problem', None) or 'unreadable'}") from None
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
        # Of constructors, where a value is not what its looks or its tag say: 2026-13-45, !!int "".
        raise SettingsError(f"{path}: a value cannot be read: {error}") from None
    return content
