"""The HTTP side over a daemon without cameras and models: its real server, a client of it, a real store behind it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
from fake_daemon import FakeDaemon
from patience import MAX_S
from test_evidence import open_store

from edgead.line.web.app import build_app
from edgead.line.web.server import serve


@contextmanager
def served(daemon: FakeDaemon, port: int = 0) -> Iterator[str]:
    """Serve a daemon on a port, by default a free one; gives its address."""
    server = serve(build_app(daemon), daemon.site.http.model_copy(update={"port": port}))
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.close()


@contextmanager
def client_of(daemon: FakeDaemon, path: str = "", **more: Any) -> Iterator[httpx.Client]:
    """Serve a daemon; gives a client whose requests begin at a path."""
    with served(daemon) as url, httpx.Client(base_url=url + path, timeout=MAX_S, **more) as client:
        yield client


@contextmanager
def daemon_with_store(folder: Path, **settings: Any) -> Iterator[FakeDaemon]:
    """Give a daemon that keeps what is judged in a real store."""
    with closing(open_store(folder / "evidence", **settings)) as store:
        yield FakeDaemon(folder, store=store)
