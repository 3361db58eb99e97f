"""Reader and writer of the site file, with all checks.

`${NAME}` in any text stands for the environment variable of that name, so that no secret need be in the file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from edgead.errors import SettingsError
from edgead.files.strict_yaml import YamlFile, load_yaml
from edgead.line.site.error_text import Place, PlacedError, explain
from edgead.line.site.schema import Site
from edgead.sources import watched_folder

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


def load_site(path: str | os.PathLike[str], environment: Mapping[str, str] = os.environ) -> Site:
    """Read and check a site file; relative paths in it start from its folder.

    Raises SettingsError: the path is no readable regular file of at most 1 MiB; or the file is no YAML, or has an
        alias, a repeated or unknown key, a value that does not fit, or a variable that is not set. The message names
        the line and place of every problem, and quotes no value that may be a secret.
    """
    return read_site(path, environment)[0]


def read_site(path: str | os.PathLike[str], environment: Mapping[str, str] = os.environ) -> tuple[Site, YamlFile]:
    """Read a site as `load_site` does, and return it with its YAML file, which knows the line of each key."""
    file = load_yaml(Path(path))
    if not isinstance(file.content, dict):
        raise SettingsError(f"{path}: expected sections such as `cameras:` and `pipelines:`")
    try:
        site = Site.model_validate(_substituted(file.content, environment, ()))
        site = site.beside(file.path.absolute().parent)
        _check_watched(site)
        return site, file
    except ValidationError as error:
        raise SettingsError(explain(error, Site, file)) from None
    except PlacedError as error:
        raise SettingsError(f"{file.where(error.place)}: {error}") from None


def _check_watched(site: Site) -> None:
    """Raise PlacedError if two cameras watch the same folder, since each would take the other's images."""
    watched: dict[str, str] = {}
    for name, camera in site.cameras.items():
        folder = watched_folder(camera.uri)
        if folder is None:
            continue
        other = watched.setdefault(os.path.realpath(folder), name)
        if other != name:
            raise PlacedError(
                ("cameras", name, "uri"),
                f"camera {other} watches this folder too, and each would take the other's images: let the pipelines "
                "share one camera, or name another folder",
            )


def resolved(site: Site) -> str:
    """Return a site as YAML text, with every default and without secrets."""
    return yaml.safe_dump(site.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True)


def _substituted(value: Any, environment: Mapping[str, str], place: Place) -> Any:
    if isinstance(value, dict):
        return {_key(key, place): _substituted(item, environment, (*place, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_substituted(item, environment, (*place, index)) for index, item in enumerate(value)]
    if not isinstance(value, str):
        return value

    def variable(found: re.Match[str]) -> str:
        if found[1] not in environment:
            raise PlacedError(place, f"the environment variable {found[1]} is not set")
        return environment[found[1]]

    text = _VARIABLE.sub(variable, value)
    if "\0" in text or not _is_unicode(text):
        raise PlacedError(place, "has a NUL, or half of a character: no path and no host can be so named")
    return text


def _key(key: Any, place: Place) -> Any:
    if isinstance(key, str) and not _is_unicode(key):
        raise PlacedError(place, "a key has half of a character")
    return key


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
