"""A daemon that is killed at 33 instants: no record is lost or doubled, and no image is half on the disk.

Seeded; a fifth of the kills comes while it starts. What any receiver had got must be on record, and each record once.
"""

from __future__ import annotations

import json
import random
import sqlite3
import time
from contextlib import closing

import cv2
import pytest
from daemons import conveyor, make_site, started, wait_for

ROUNDS = 33
_SEED = 20


def lines_of(file):
    """The ids of all whole lines."""
    if not file.exists():
        return []
    return [json.loads(line)["id"] for line in file.read_text().splitlines() if line.endswith("}")]


def check_store(folder):
    """The database is whole, and every image of it can be read; a file that is half written has another name."""
    file = folder / "verdicts.sqlite"
    if not file.exists():
        return []
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        rows = list(connection.execute("SELECT id, pipeline FROM verdicts")) if "verdicts" in tables else []
    for image in folder.rglob("*.jpg"):
        data = image.read_bytes()
        assert data[:2] == b"\xff\xd8" and data[-2:] == b"\xff\xd9", image
        assert cv2.imread(str(image)) is not None, image
    assert len(set(rows)) == len(rows)
    return [id for id, _ in rows]


@pytest.fixture(scope="module")
def line(trained_model, tmp_path_factory):
    """A site that keeps the images of every verdict, over all kills."""
    folder = tmp_path_factory.mktemp("kills")
    sinks = {"lines": {"kind": "uri", "uri": f"jsonl:{folder}/lines.jsonl"}}
    store = {"folder": "evidence", "free_mib": 0, "evidence": "all", "before": 1, "after": 1}
    site = make_site(trained_model, cameras={"conveyor": conveyor(10)}, sinks=sinks, store=store, http=None)
    site["pipelines"]["a"]["sinks"] = ["lines"]
    return folder, site


@pytest.mark.slow
@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_kill_loses_doubles_and_halves_nothing(number, line):
    folder, site = line
    chance = random.Random(_SEED + number)
    at_the_start = chance.random() < 0.2
    before = len(check_store(folder / "evidence"))
    sent_before = len(lines_of(folder / "lines.jsonl"))
    with started(folder, site) as daemon:
        if at_the_start:
            time.sleep(chance.uniform(0.0, 3.0))
        else:
            wait_for(lambda: len(lines_of(folder / "lines.jsonl")) > sent_before, "verdicts")
            time.sleep(chance.uniform(0.0, 1.0))
        daemon.process.kill()
        daemon.process.wait()
    ids, sent = check_store(folder / "evidence"), lines_of(folder / "lines.jsonl")
    assert len(set(sent)) == len(sent)
    assert set(sent) <= set(ids)
    assert len(ids) - before - (len(sent) - sent_before) <= 2  # what was on its way to the sink
    assert at_the_start or len(ids) > before
