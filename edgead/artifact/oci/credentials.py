"""Credentials of who asks a registry, from the environment or `docker login`, and the hosts that may see them."""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from edgead.errors import SettingsError
from edgead.files.regular_files import MissingFileError, UnreadableFileError, read_regular

_MAX_BYTES = 1 << 20


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
        Docker's file cannot be read, or the environment does not say of which registry its password is.
    """
    user = os.environ.get("EDGEAD_REGISTRY_USER")
    of_host = os.environ.get("EDGEAD_REGISTRY_HOST")
    if user and not of_host:
        raise SettingsError(
            "EDGEAD_REGISTRY_HOST is missing: name the registry that EDGEAD_REGISTRY_USER and its password are of, "
            f"such as {host}; others do not get them"
        )
    if user and host == of_host:
        return Credentials(user, os.environ.get("EDGEAD_REGISTRY_PASSWORD", ""))
    file = Path(os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")) / "config.json"
    try:
        content = json.loads(read_regular(file, _MAX_BYTES))
        entry = content.get("auths", {}).get(host, {}).get("auth", "")
        user, colon, password = base64.b64decode(entry, validate=True).decode().partition(":")
    except MissingFileError:
        return None
    except UnreadableFileError as error:
        raise SettingsError(f"{file} {error}: let this user read it, or set EDGEAD_REGISTRY_USER") from None
    except (ValueError, AttributeError, TypeError, RecursionError, binascii.Error):
        raise SettingsError(f"{file} is not as `docker login` writes it: log in again") from None
    return Credentials(user, password) if colon else None


def may_see_password(host: str, registry: str) -> bool:
    """Whether the password for a registry may go to a server of tokens: its own host, and those that a person named.

    Parameters
    ----------
    host, registry : str
        Names of hosts without ports.
    """
    return host in {registry, *re.split(r"[\s,]+", os.environ.get("EDGEAD_REGISTRY_TOKEN_HOSTS", ""))}
