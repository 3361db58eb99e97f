"""Servers of PLCs in processes of their own: snap7's with a data block, cpppo's with tags."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress

from patience import MAX_S, wait_for

_S7 = """
import sys, time
from snap7.server import Server
from snap7.type import SrvArea
server = Server(log=False)
server.register_area(SrvArea.DB, int(sys.argv[2]), bytearray(int(sys.argv[3])))
server.start(int(sys.argv[1]))
time.sleep(600)
"""


class _Process:
    def __init__(self, *command: str):
        self._process = subprocess.Popen(
            [sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def close(self) -> None:
        self._process.kill()
        self._process.wait(MAX_S)


class S7Server(_Process):
    """A PLC with one data block, full of zeros; `client` reads and writes it as the PLC's program would."""

    def __init__(self, port: int, db: int, size: int):
        import snap7

        self.port = port
        super().__init__("-c", _S7, str(port), str(db), str(size))
        self.client = snap7.Client()

        def connects():
            with suppress(snap7.error.S7Error):
                return self.client.connect("127.0.0.1", 0, 1, port)

        wait_for(connects, "the server")

    def close(self) -> None:
        self.client.disconnect()
        super().close()


class LogixServer(_Process):
    """A PLC with tags, `Name=TYPE[length] ...`, whose values are 0; `client` is its program."""

    def __init__(self, port: int, tags: str):
        import pylogix

        self.port = port
        flags = ("--no-udp", "--no-config", "-a", f"127.0.0.1:{port}")
        super().__init__("-m", "cpppo.server.enip", *flags, *tags.split())
        self.client = pylogix.PLC("127.0.0.1", timeout=MAX_S, port=port)
        for unused in (self.client.conn.Socket, self.client.conn.msg_socket):
            unused.close()  # pylogix makes others when it connects
        first = tags.partition("=")[0]
        wait_for(lambda: self.client.Read(first).Status == "Success", "the server")

    def close(self) -> None:
        self.client.Close()
        super().close()
