"""A server of the page in a process of its own, with few files to open; its log is what the daemon's would be."""

from __future__ import annotations

import http.client
import logging
import os
import re
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TESTS = Path(__file__).parent.parent
MAX_FILES = 1024


class Target:
    """A server on a port of this computer."""

    def __init__(self, port: int):
        self.port = port

    def connect(self, timeout_s: float = 3.0, *, receive_bytes: int = 0) -> socket.socket:
        """Connect from another address than the probes, as whoever means harm would."""
        client = socket.socket()
        if receive_bytes:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        client.settimeout(timeout_s)
        client.bind(("127.0.0.66", 0))
        client.connect(("127.0.0.1", self.port))
        return client


class ServerProcess(Target):
    """What can be known of it from outside."""

    def __init__(self, process: subprocess.Popen, port: int, log: Path):
        super().__init__(port)
        self._process, self._log = process, log

    @property
    def files(self) -> int:
        return len(os.listdir(f"/proc/{self._process.pid}/fd"))

    @property
    def log_lines(self) -> int:
        return self._log.read_text().count("\n")

    def probe(self, path: str) -> tuple[int, float]:
        """Ask on a connection of its own; gives the status, 0 for none, and the seconds it took."""
        begin = time.monotonic()
        asked = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            asked.request("GET", path)
            status = asked.getresponse().status
        except (OSError, http.client.HTTPException):
            status = 0
        finally:
            asked.close()
        return status, time.monotonic() - begin


@contextmanager
def served(folder: Path) -> Iterator[ServerProcess]:
    log = folder / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, __file__, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stream
        )
    assert process.stdout and process.stdin
    try:
        found = re.match(rb"port (\d+)", process.stdout.readline())
        assert found, log.read_text()
        yield ServerProcess(process, int(found[1]), log)
    finally:
        process.stdin.close()
        process.stdout.close()
        assert process.wait(30) == 0, log.read_text()


def main(folder: Path) -> None:
    sys.path.insert(0, str(TESTS))
    from fake_daemon import TOKEN, FakeDaemon, FakePipeline
    from pydantic import SecretStr

    from edgead.errors import SettingsError
    from edgead.line.daemon.logs import log_json_lines
    from edgead.line.site.schema import HttpSection
    from edgead.line.web.app import build_app
    from edgead.line.web.server import serve

    class Exchanging(FakePipeline):
        """One exchange at a time, as in a real one; each takes its time."""

        def __post_init__(self) -> None:
            self.exchanging = threading.Lock()

        def swap(self, model: Path, *, by: str) -> None:
            if not self.exchanging.acquire(blocking=False):
                raise SettingsError("another exchange is under way")
            with self.exchanging_ends():
                time.sleep(0.3)

        @contextmanager
        def exchanging_ends(self) -> Iterator[None]:
            try:
                yield
            finally:
                self.exchanging.release()

        def self_test(self) -> dict[str, object]:
            time.sleep(0.3)
            return {"passed": True, "images": []}

    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_FILES, MAX_FILES))
    log_json_lines()
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    (folder / "store").mkdir()
    daemon = FakeDaemon(folder / "store", http=HttpSection(port=0, token=SecretStr(TOKEN)))
    daemon.pipelines["front"] = Exchanging(daemon.pipelines["front"].model)
    for number in range(20):
        daemon.judge(number, 0.9)
    server = serve(build_app(daemon), daemon.site.http)
    print("port", server.port, flush=True)
    sys.stdin.read()
    server.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
