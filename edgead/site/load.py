"""A site file is read, checked and written out.

`${NAME}` in any text stands for the environment variable of that name, so that no secret need be in the file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from edgead.errors import SettingsError, tell_invalid
from edgead.files.strict_yaml import load_yaml
from edgead.site.schema import Site

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_Part = TypeVar("_Part", bound=BaseModel)


def load_site(path: str | os.PathLike[str], environment: Mapping[str, str] = os.environ) -> Site:
    """Read and check a site file; relative paths in it start from its folder.

    Raises
    ------
    SettingsError
        Not a readable regular file of at most 1 MiB, no YAML, an alias, an unknown key, a value that does not fit, a
        variable that is not set. Every problem is named by its place, and no value is quoted that may be a secret.
    """
    path = Path(path)
    content = load_yaml(path)
    if not isinstance(content, dict):
        raise SettingsError(f"{path}: expected sections such as `cameras:` and `pipelines:`")
    try:
        site = Site.model_validate(_substituted(content, environment, ""))
    except ValidationError as error:
        raise SettingsError(f"{path}: {tell_invalid(error.errors(), whole='the file')}") from None
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from None
    return _beside(site, path.absolute().parent)


def resolved(site: Site) -> str:
    """Write a site as YAML with every default and no secret."""
    return yaml.safe_dump(site.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True)


def _substituted(value: Any, environment: Mapping[str, str], where: str) -> Any:
    if isinstance(value, dict):
        return {
            _key(key, where): _substituted(item, environment, f"{where}.{key}".lstrip("."))
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_substituted(item, environment, f"{where}.{index}") for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def variable(found: re.Match[str]) -> str:
        if found[1] not in environment:
            raise SettingsError(f"{where}: the environment variable {found[1]} is not set")
        return environment[found[1]]

    text = _VARIABLE.sub(variable, value)
    if "\0" in text or not _is_unicode(text):
        raise SettingsError(f"{where}: has a NUL, or half of a character: no path and no host can be so named")
    return text


def _key(key: Any, where: str) -> Any:
    if isinstance(key, str) and not _is_unicode(key):
        raise SettingsError(f"{where or 'the file'}: a key has half of a character")
    return key


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _beside(section: _Part, folder: Path) -> _Part:
    """The section with every relative Path in it and in its parts starting from a folder."""
    return section.model_copy(
        update={name: _placed(getattr(section, name), folder) for name in type(section).model_fields}
    )


def _placed(value: Any, folder: Path) -> Any:
    if isinstance(value, Path):
        return folder / value
    if isinstance(value, BaseModel):
        return _beside(value, folder)
    if isinstance(value, dict):
        return {key: _placed(item, folder) for key, item in value.items()}
    return value
