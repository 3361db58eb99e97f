"""Address of the page: a socket that listens where the site file says."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from edgead.errors import SettingsError

if TYPE_CHECKING:
    from edgead.line.site.http import HttpSection

BACKLOG = 1024
"""Connections that the kernel keeps until they are accepted; a client that finds it full tries again after a second."""


def listen(section: HttpSection) -> socket.socket:
    """Listen on the address of a section; clients wait until `accept`.

    Raises SettingsError: the address is taken, or does not belong to this computer.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(section.host, section.port, type=socket.SOCK_STREAM)[0]
        # With the protocol named, asyncio sets TCP_NODELAY; without, each answer waits 40 ms for an acknowledgement.
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(BACKLOG)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise SettingsError(
            f"{section.host}:{section.port} cannot be listened on: {error.strerror}. Stop what listens there, "
            "perhaps another edgead, or write another port into the site file, below `http:`"
        ) from None
    return listening
