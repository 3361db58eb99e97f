"""A daemon in the process of a test, with real cameras, models and records; the models are small and quickly loaded."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import httpx
import yaml
from patience import PROGRAM_S, wait_for
from small_graph import small_images
from valid_artifact import read_manifest, stamp, write_valid

from edgead.detector import Detector, Session
from edgead.line.daemon.run import Daemon


def write_model(once: Callable, path: Path) -> Path:
    """Give a small model whose manifest, and so its hash, is that of no other one: its name is in it."""
    shutil.copytree(once("small_model", lambda draft: write_valid(draft)), path)
    content = read_manifest(path)
    content["training"]["note"] = path.name
    stamp(path, content)
    return path


def write_images(folder: Path, count: int) -> Path:
    folder.mkdir(exist_ok=True)
    for number, image in enumerate(small_images(count)):
        cv2.imwrite(str(folder / f"{number:04}.png"), image)
    return folder


class Models:
    """What models do beyond their files, by the names of their folders: they break, or their loads are held up."""

    def __init__(self, monkeypatch: Any):
        self.broken: set[str] = set()
        self.loads: list[str] = []
        self._held: dict[str, threading.Event] = {}
        load, step = Detector.load, Session.step

        def loaded(path: Path, **options: Any) -> Detector:
            self.loads.append(Path(path).name)
            held = self._held.get(Path(path).name)
            assert held is None or held.wait(PROGRAM_S)
            return load(path, **options)

        def stepped(session: Session, frame: Any) -> Any:
            if session._detector.artifact.path.name in self.broken:
                raise RuntimeError("the engine broke")
            return step(session, frame)

        monkeypatch.setattr(Detector, "load", staticmethod(loaded))
        monkeypatch.setattr(Session, "step", stepped)

    def hold(self, name: str) -> threading.Event:
        """Hold up each load of a model until the event is set."""
        self._held[name] = threading.Event()
        return self._held[name]

    def release(self) -> None:
        for held in self._held.values():
            held.set()


class SmallDaemon:
    """A daemon whose main loop runs in a thread."""

    def __init__(self, folder: Path, site: dict[str, Any]):
        self.file, self.site = folder / "site.yaml", site
        self.write()
        self.daemon = Daemon(self.file)
        self.daemon.startup()
        self._loop = threading.Thread(target=self.daemon.main_loop, name="main loop", daemon=True)
        self._loop.start()

    def write(self) -> None:
        self.file.write_text(yaml.safe_dump(self.site))

    def reload(self) -> None:
        """Read the site as it is now, and wait for the end of that."""
        self.write()
        self.daemon.reload()

    def status(self, name: str = "a") -> Any:
        return self.daemon.pipelines[name].status()

    def wait_state(self, state: str, name: str = "a", *, reason: str = "") -> Any:
        def reached() -> Any:
            found = self.status(name)
            return found if found.state == state and reason in (found.reason or "") else None

        return wait_for(reached, f"{name} is {state}: {reason}")

    def wait_judged(self, more: int = 2, name: str = "a") -> Any:
        begin = self.status(name).judged
        return wait_for(
            lambda: (found := self.status(name)).judged >= begin + more and found, f"{more} verdicts of {name}"
        )

    def model(self, name: str = "a") -> str:
        """The folder of the model in service."""
        return Path(self.status(name).model).name

    @property
    def client(self) -> httpx.Client:
        server = self.daemon._page._server
        assert server is not None
        return httpx.Client(base_url=f"http://127.0.0.1:{server.port}", timeout=PROGRAM_S)

    def close(self) -> None:
        self.daemon._requests._asked.put("stop")
        self._loop.join(30)
        self.daemon.shutdown()


@contextmanager
def small_daemon(folder: Path, site: dict[str, Any], models: Models | None = None) -> Iterator[SmallDaemon]:
    started = SmallDaemon(folder, {"store": {"folder": "evidence", "free_mib": 0}, "http": None, **site})
    try:
        yield started
    finally:
        if models is not None:
            models.release()
        started.close()
