"""A cable between a client and a server on this computer."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

from patience import MAX_S


class Cable:
    """Passes bytes between a client and a server, and can be cut; what connects after that is connected."""

    def __init__(self, port):
        self._port = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._ends = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def cut(self):
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self):
        self._server.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self._threads:
            thread.join(MAX_S)
        for end in (self._server, *self._ends):
            end.close()

    def _accept(self):
        with suppress(OSError):
            while True:
                ends = (self._server.accept()[0], socket.create_connection(("127.0.0.1", self._port)))
                self._ends += ends
                for one, other in (ends, ends[::-1]):
                    thread = threading.Thread(target=self._pass_on, args=(one, other), daemon=True)
                    thread.start()
                    self._threads.append(thread)

    def _pass_on(self, one, other):
        with suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        with suppress(OSError):
            other.shutdown(socket.SHUT_RDWR)
