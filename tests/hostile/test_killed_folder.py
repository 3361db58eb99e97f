"""A daemon that is killed while it empties a folder: what is put away has its verdict on record, and none is lost.

Seeded; a fifth of the kills comes while it starts, half of the others while a slow model judges. An image may be judged
twice, where the kill comes between its row and its move.
"""

from __future__ import annotations

import json
import random
import sqlite3
import time
from contextlib import closing

import cv2
import pytest

pytest.importorskip("onnx", reason="KILLED FOLDER NOT TESTED: the small models need onnx")
from daemons import write_site
from forked_daemon import Forks
from patience import wait_for
from small_daemon import write_model
from small_graph import small_images

EACH = 25
_SEED = 30


def on_record(database):
    """Names of the images with a verdict, as often as they have one."""
    if not database.exists():
        return []
    with closing(sqlite3.connect(database)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        return [name for (name,) in connection.execute("SELECT name FROM verdicts")] if "verdicts" in tables else []


def images_in(folder):
    return {path.name for path in folder.glob("*.png")}


def put_away(folder, after, given):
    """Names of the images that will not be given again."""
    if after == "move":
        return images_in(folder / "done")
    if after == "delete":
        return given - images_in(folder) - images_in(folder / "taken")
    lines = (folder / ".edgead-taken").read_text().splitlines() if (folder / ".edgead-taken").exists() else []
    return {json.loads(line)[0] for line in lines}


@pytest.mark.parametrize("after", ["move", "delete", "keep"])
@pytest.mark.parametrize("rounds", [5, pytest.param(33, marks=pytest.mark.slow)])
def test_what_is_put_away_is_on_record_and_what_is_not_comes_again(once, tmp_path, after, rounds):
    chance = random.Random(_SEED)
    folder, database = tmp_path / "watched", tmp_path / "evidence" / "verdicts.sqlite"
    folder.mkdir()
    site = {
        "cameras": {"c": {"uri": f"watch:{folder}?stable_ms=0&after={after}"}},
        "pipelines": {"a": {"camera": "c", "model": str(write_model(once, tmp_path / "model"))}},
        "store": {"folder": "evidence", "free_mib": 0},
        "http": None,
    }
    slow = tmp_path / "slow" / "model"  # whose steps take 0.2 s while this is there
    slow.parent.mkdir()
    path, images, given = write_site(tmp_path, site), small_images(8), set()
    with Forks() as forks:
        for number in range(rounds + 1):
            for one in range(EACH if number < rounds else 0):
                name = f"{number:02}-{one:02}.png"
                cv2.imwrite(str(folder / f".{name}"), images[one % len(images)])
                (folder / f".{name}").rename(folder / name)
                given.add(name)
            slow.unlink(missing_ok=True)
            if number < rounds and number % 2 == 0:
                slow.touch()
            before = len(on_record(database))
            process = forks.fork("run_daemon", site=str(path))
            if number == rounds:
                wait_for(lambda: put_away(folder, after, given) == given, "all images")
            elif chance.random() < 0.2:
                time.sleep(chance.uniform(0.0, 1.0))
            else:
                more = chance.randrange(1, 3) if slow.exists() else chance.randrange(1, EACH // 2)
                wait_for(lambda: len(on_record(database)) >= before + more, "verdicts")  # noqa: B023
                time.sleep(chance.uniform(0.0, 0.3 if slow.exists() else 0.05))
            process.kill()
            process.wait()
            assert put_away(folder, after, given) <= set(on_record(database))
    judged = on_record(database)
    assert set(judged) == given and images_in(folder / "taken") == set()
    assert not (folder / "failed").exists()
    assert len(judged) - len(given) <= 3 * rounds  # those that were under way, at most
