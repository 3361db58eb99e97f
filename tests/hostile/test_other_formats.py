"""A camera that loses its format while nobody looks: half of the part is out of the frame, and verdicts go on."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("onnx", reason="OTHER FORMATS NOT TESTED: the small models need onnx")
from patience import wait_for
from small_daemon import SmallDaemon, small_daemon, write_model
from small_graph import SIZE, small_images
from valid_artifact import read_manifest, stamp

NUMBERS = itertools.count()


class Line:
    """A folder that a camera fills, and the daemon that judges it."""

    def __init__(self, daemon: SmallDaemon, folder: Path):
        self.daemon, self._folder = daemon, folder

    def give(self, count: int, height: int = SIZE, width: int = SIZE) -> None:
        """Fill in so many frames, and wait for their verdicts."""
        before = self.daemon.status().judged
        for image in small_images(count):
            draft = self._folder / ".draft"
            image = np.tile(image, (-(-height // SIZE), -(-width // SIZE), 1))[:height, :width]
            draft.write_bytes(cv2.imencode(".png", image)[1].tobytes())
            draft.rename(self._folder / f"{next(NUMBERS):04}.png")
        wait_for(lambda: self.daemon.status().judged == before + count, f"{count} verdicts")

    def standing(self) -> list:
        return [one for one in self.daemon.daemon.notices.standing() if one.kind == "frame_format"]

    def wait_raised(self, text: str) -> None:
        wait_for(lambda: [one for one in self.standing() if text in one.text], f"the alarm: {text}")

    def is_quiet(self) -> bool:
        """Whether nothing stands, after the daemon has looked once more; it looks twice a second."""
        time.sleep(1.2)
        return self.standing() == []


@pytest.fixture
def site(once, tmp_path):
    folder = tmp_path / "watched"
    folder.mkdir()
    pipeline = {"camera": "c", "model": str(write_model(once, tmp_path / "one")), "alarms": {"rejects_in_a_row": None}}
    return {
        "cameras": {"c": {"uri": f"watch:{folder}?stable_ms=20"}},
        "pipelines": {"a": pipeline},
        "notices": {"settle_s": 60},
    }


def test_half_frames_are_an_alarm_from_the_first_on_and_say_nothing_of_drift(site, tmp_path, caplog):
    with small_daemon(tmp_path, site) as daemon:
        line = Line(daemon, tmp_path / "watched")
        line.give(5)
        assert line.is_quiet() and daemon.status().drift.parts == 5
        with caplog.at_level("WARNING"):
            line.give(1, height=SIZE // 2)
            line.wait_raised("frames of 16 x 8 pixels where the model learnt 16 x 16: parts are cut off or squeezed")
            line.give(200, height=SIZE // 2)
        assert [record.getMessage() for record in caplog.records if "16 x 8" in record.getMessage()] == [
            f"a: alarm raised: {line.standing()[0].text}"
        ]
        assert (line.standing()[0].severity, daemon.status().state) == ("critical", "running")
        assert (daemon.status().drift.parts, daemon.status().drift.state) == (5, "ok")
        daemon.site["pipelines"]["a"]["palette"] = "cool"
        raised = line.standing()[0].id
        daemon.reload()
        line.give(1, height=SIZE // 2)
        assert [one.id for one in line.standing()] == [raised]
        line.give(3)
        wait_for(lambda: not line.standing(), "its end")
        records = [record.get("other_format") for record in daemon.daemon.store.verdicts(limit=1000)]
        assert records == [*[None] * 3, *["proportions"] * 202, *[None] * 5]  # the newest first


def test_a_model_that_learnt_the_format_ends_the_alarm_and_one_that_did_not_raises_it(once, site, tmp_path):
    wide = write_model(once, tmp_path / "wide")
    for number in range(2):
        path = wide / f"golden/{number}.png"
        cv2.imwrite(str(path), np.repeat(cv2.imread(str(path)), 2, axis=1))  # shrunk to the input it is the same
    stamp(wide, read_manifest(wide))
    with small_daemon(tmp_path, site) as daemon:
        line = Line(daemon, tmp_path / "watched")
        line.give(2, width=2 * SIZE)
        line.wait_raised("frames of 32 x 16 pixels where the model learnt 16 x 16")
        daemon.daemon.pipelines["a"].swap(wide, by="Anna")
        line.give(3, width=2 * SIZE)
        wait_for(lambda: not line.standing(), "its end")
        daemon.daemon.pipelines["a"].roll_back(by="Anna")
        line.give(1, width=2 * SIZE)
        line.wait_raised("frames of 32 x 16 pixels where the model learnt 16 x 16")


def test_frames_of_the_same_proportions_are_no_alarm_unless_much_is_lost(site, tmp_path):
    with small_daemon(tmp_path, site) as daemon:
        line = Line(daemon, tmp_path / "watched")
        for side in (4 * SIZE, SIZE // 2, SIZE + 1):
            line.give(2, side, side)
        assert line.is_quiet()
        line.give(1, SIZE // 4, SIZE // 4)
        line.wait_raised("frames of 4 x 4 pixels where the model learnt 16 x 16: fine defects are not seen")
        assert line.standing()[0].severity == "warning"
