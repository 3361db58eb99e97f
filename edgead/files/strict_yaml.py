"""YAML by careless or hostile authors, read in bounded time and memory; an error names line and reason."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from edgead.errors import SettingsError
from edgead.files.regular_files import UnreadableFileError, read_regular

_MAX_BYTES = 2**20
_MAX_DEPTH = 32
_QUOTES = 'put the value in quotes: "..."'
# Parts of PyYAML's messages, and what to do about each; the first match counts.
_HINTS = {
    "but got '<stream end>'": "a bracket is not closed",
    "expected ',' or": f"in {{...}} and [...] some characters end a value; {_QUOTES}",
    "'\\t'": "indent with spaces, not with tabs",
    "that cannot start any token": _QUOTES,
    "mapping values are not allowed": f"a `: ` within a value, or a wrong indentation; {_QUOTES}, or indent it right",
    "<block end>": "is the indentation right?",
}


class _Refusal(yaml.MarkedYAMLError):
    """Refusal of valid YAML."""


class _PlainLoader(yaml.SafeLoader):
    """Loader that refuses deep nesting, duplicate keys, and aliases, by which a small file can stand for a huge one."""

    _depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if self.check_event(yaml.AliasEvent):
            raise _Refusal(problem="aliases (*name) are refused: write it out", problem_mark=event.start_mark)
        if self._depth >= _MAX_DEPTH:
            raise _Refusal(problem=f"nested more than {_MAX_DEPTH} levels deep", problem_mark=event.start_mark)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def compose_mapping_node(self, anchor: Any) -> Any:
        """Refuse a duplicate key: YAML would silently drop its first value."""
        node = super().compose_mapping_node(anchor)
        first: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and first.setdefault(key.value, line) != line:
                problem = f"the key {key.value!r} is there already, in line {first[key.value]}: rename or remove one"
                raise _Refusal(problem=problem, problem_mark=key.start_mark)
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
            # Constructors fail on a value unlike its tag or its looks: 2026-13-45, !!int "".
            raise _Refusal(problem=f"a value cannot be read: {error}", problem_mark=node.start_mark) from None


@dataclass(frozen=True, slots=True)
class YamlFile:
    """Content of a YAML file, with the line of each part."""

    path: Path
    content: Any
    _root: yaml.Node | None

    def line(self, place: Sequence[object]) -> int:
        """Find the line of the deepest of these nested keys and indices that is in the file; 0 for none."""
        node, line = self._root, 0
        for part in place:
            found = _child(node, part)
            if found is None:
                break
            line, node = found
        return line

    def where(self, place: Sequence[object]) -> str:
        """Return the file's name with the line of a place, for messages."""
        line = self.line(place)
        return f"{self.path}, line {line}" if line else str(self.path)


def _child(node: yaml.Node | None, part: object) -> tuple[int, yaml.Node] | None:
    """Find the line of a key or an item, and its value."""
    if isinstance(node, yaml.MappingNode):
        return next(((key.start_mark.line + 1, value) for key, value in node.value if key.value == str(part)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part].start_mark.line + 1, node.value[part]
    return None


def load_yaml(path: Path, *, prepared: Callable[[str], str] = str) -> YamlFile:
    """Read one document from a regular file of at most 1 MiB.

    `prepared`: turns the file's text into YAML if it is a dialect of YAML; must keep the number of lines.
    Raises SettingsError: the file cannot be read, is not YAML, or has an alias or a duplicate key; the message names
        the line.
    """
    try:
        text = read_regular(path, _MAX_BYTES).decode("utf-8")
    except UnreadableFileError as error:
        raise SettingsError(f"{path}: {error}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: cannot be read: {error}") from error
    try:
        loader = _PlainLoader(prepared(text))
        root = loader.get_single_node()
        content = None if root is None else loader.construct_document(root)
    except yaml.YAMLError as error:
        raise SettingsError(f"{path}{_problem(error)}") from None
    return YamlFile(path, content, root)


def _problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f", line {mark.line + 1}" if mark else ""
    problem = getattr(error, "problem", None) or "unreadable"
    if isinstance(error, _Refusal):
        return f"{where}: {problem}"
    hint = next((hint for text, hint in _HINTS.items() if text in problem), None)
    return f"{where}: is not YAML: {f'{hint} ({problem})' if hint else problem}"
