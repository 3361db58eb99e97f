"""A watched folder that is filled at a steady rate while somebody else plants links, FIFOs and false files in it."""

from __future__ import annotations

import os
import random
import threading
import time
from pathlib import Path

import cv2
import pytest

pytest.importorskip("onnx", reason="WATCHED FOLDER NOT TESTED: the small models need onnx")
from patience import wait_for
from small_daemon import small_daemon, write_model
from small_graph import small_images

from edgead.detector import Session

# The pipeline could judge 16 images a second.
STEP_S = 0.06
FEW_S, LONG_S = 4, 20
SLOW = [pytest.param(after, rate, LONG_S, marks=pytest.mark.slow) for after in ("move", "keep") for rate in (3, 5, 8)]


class Planter:
    """Plants what nobody may follow, open or overwrite, until it is closed."""

    def __init__(self, folder: Path, victim: Path):
        self._folder, self._victim, self._chance = folder, victim, random.Random(0)
        self._closing = threading.Event()
        self.planted = 0
        self._thread = threading.Thread(target=self._plant, name="planter")
        self._thread.start()

    def _plant(self) -> None:
        while not self._closing.wait(0.05):
            self.planted += 1
            name = f"x{self.planted}.png"
            chosen = self._chance.choice((self._link, self._fifo, self._false, self._folder_of_that_name, self._reason))
            chosen(self._folder / name)

    def _link(self, path: Path) -> None:
        path.symlink_to(self._victim)

    def _fifo(self, path: Path) -> None:
        os.mkfifo(path)

    def _false(self, path: Path) -> None:
        path.write_bytes(self._chance.randbytes(200))

    def _folder_of_that_name(self, path: Path) -> None:
        path.mkdir()

    def _reason(self, path: Path) -> None:
        """A link where the reason of a false image is going to be written."""
        failed = self._folder / "failed"
        failed.mkdir(exist_ok=True)
        (failed / f"{path.name}.txt").symlink_to(self._victim)
        self._false(path)

    def close(self) -> None:
        self._closing.set()
        self._thread.join()


@pytest.mark.parametrize("after, rate, seconds", [("move", 8, FEW_S), ("keep", 8, FEW_S), *SLOW])
def test_each_image_is_judged_once_and_soon_whatever_is_planted(once, tmp_path, monkeypatch, after, rate, seconds):
    step = Session.step

    def slower(session, frame):
        time.sleep(STEP_S)
        return step(session, frame)

    monkeypatch.setattr(Session, "step", slower)
    folder, victim = tmp_path / "watched", tmp_path / "victim.png"
    folder.mkdir()
    cv2.imwrite(str(victim), small_images(1)[0])
    before = victim.read_bytes()
    site = {
        "cameras": {"c": {"uri": f"watch:{folder}?stable_ms=50&after={after}"}},
        "pipelines": {"a": {"camera": "c", "model": str(write_model(once, tmp_path / "model"))}},
    }
    images = small_images(8)
    with small_daemon(tmp_path, site) as daemon:
        daemon.wait_state("running")
        planter, written, behind = Planter(folder, victim), 0, 0
        try:
            begin_s = time.monotonic()
            while (now_s := time.monotonic() - begin_s) < seconds:
                if now_s * rate >= written:
                    draft = folder / ".draft"
                    draft.write_bytes(cv2.imencode(".png", images[written % len(images)])[1].tobytes())
                    draft.rename(folder / f"{written:04}.png")
                    written += 1
                    behind = max(behind, written - daemon.status().judged)
                time.sleep(0.01)
        finally:
            planter.close()
        wait_for(lambda: daemon.status().judged >= written, f"{written} verdicts")
        assert daemon.status().state == "running"
        judged = daemon.daemon.store.verdicts(limit=2 * written)
    assert sorted(row["name"] for row in judged) == [f"{number:04}.png" for number in range(written)]
    assert planter.planted > 5 * seconds and victim.read_bytes() == before
    # It keeps up: what waits does not grow with the time. Other work on the machine may hold it up for two seconds.
    assert behind < 2.5 * rate
