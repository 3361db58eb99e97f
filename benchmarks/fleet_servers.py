"""A registry and a broker on this computer, for a benchmark, and what they have used."""

from __future__ import annotations

import os
import re
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path

import psutil

_WAIT_S = 30.0
_ANSWERED = re.compile(r"http\.request\.method=(\w+) .*http\.response\.written=(\d+)")


class Server:
    """A program that listens on a port of this computer; may be ended and started again.

    Parameters
    ----------
    program : str
    package : str
        Of Debian, for whoever lacks it.
    folder : Path
    """

    def __init__(self, program: str, package: str, folder: Path):
        found = shutil.which(program) or shutil.which(f"/usr/sbin/{program}")
        if found is None:
            raise SystemExit(f"{program} is missing: apt-get install {package}")
        folder.mkdir(parents=True)
        self.program, self.folder = found, folder
        self.command: list[str] = []
        self.environment: dict[str, str] = {}
        self._cpu_before_s = 0.0
        self._process: psutil.Popen | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def start(self) -> None:
        with self.log.open("ab") as log:
            everything = {**os.environ, **self.environment}
            self._process = psutil.Popen(self.command, stdout=log, stderr=log, env=everything)
        _wait_for(self._listens)

    def stop(self) -> None:
        if self._process is not None:
            self._cpu_before_s = self.cpu_s
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def cpu_s(self) -> float:
        """Processor time since the first start."""
        if self._process is None:
            return self._cpu_before_s
        used = self._process.cpu_times()
        return self._cpu_before_s + used.user + used.system

    @property
    def memory_mib(self) -> float:
        return self._process.memory_info().rss / 2**20 if self._process else 0.0

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


def make_registry(folder: Path) -> Server:
    server = Server("docker-registry", "docker-registry", folder)
    config = folder / "config.yml"
    config.write_text("version: 0.1\nstorage: {filesystem: {}}\nhttp: {}\n")
    server.command = [server.program, "serve", str(config)]
    server.environment = {
        "REGISTRY_HTTP_ADDR": f"127.0.0.1:{server.port}",
        "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": str(folder / "data"),
        "OTEL_TRACES_EXPORTER": "none",
    }
    return server


def make_broker(folder: Path) -> Server:
    server = Server("mosquitto", "mosquitto", folder)
    config = folder / "mosquitto.conf"
    config.write_text(f"user root\nlistener {server.port} 127.0.0.1\nallow_anonymous true\n")
    server.command = [server.program, "-c", str(config)]
    return server


def requests_and_bytes(log: Path) -> tuple[int, int]:
    """Requests that a registry has answered, and the bytes of their bodies, by its log."""
    answered = _ANSWERED.findall(log.read_text(errors="replace"))
    return len(answered), sum(int(count) for method, count in answered if method != "HEAD")


def _wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _WAIT_S
    while not true():
        if time.monotonic() > deadline:
            raise SystemExit("a server did not come up in time: see its log")
        time.sleep(0.05)
