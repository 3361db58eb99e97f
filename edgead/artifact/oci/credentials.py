"""Who asks a registry: from the environment, or from what `docker login` has written."""

from __future__ import annotations

import base64
import binascii
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from edgead.errors import SettingsError
from edgead.files.regular import MissingFileError, UnreadableFileError, read_regular

_MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user's name and password; neither is ever shown."""

    user: str = field(repr=False)
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        """Value of the header `Authorization`."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def find_credentials(host: str) -> Credentials | None:
    """Look up who asks a registry; None for nobody in particular.

    Parameters
    ----------
    host : str
        With its port, where it has one.

    Raises
    ------
    SettingsError
        Docker's file cannot be read.
    """
    user = os.environ.get("EDGEAD_REGISTRY_USER")
    if user:
        return Credentials(user, os.environ.get("EDGEAD_REGISTRY_PASSWORD", ""))
    file = Path(os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")) / "config.json"
    try:
        content = json.loads(read_regular(file, _MOST_BYTES))
        entry = content.get("auths", {}).get(host, {}).get("auth", "")
        user, colon, password = base64.b64decode(entry, validate=True).decode().partition(":")
    except MissingFileError:
        return None
    except UnreadableFileError as error:
        raise SettingsError(f"{file} {error}: let this user read it, or set EDGEAD_REGISTRY_USER") from None
    except (ValueError, AttributeError, TypeError, RecursionError, binascii.Error):
        raise SettingsError(f"{file} is not as `docker login` writes it: log in again") from None
    return Credentials(user, password) if colon else None
