"""What an evidence store bears: kills at any instant, full disks, a clock that is set, quotas, servers that go away."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from fakes import full_disk
from patience import wait_until
from system_packages import require
from test_evidence import keep, open_store, read_image
from verdicts import Line, ids

from edgead.line.evidence.database import MAX_LOG
from edgead.line.evidence.folder import ImageFolder
from edgead.line.evidence.upkeep import bring_to_disk
from edgead.sources.contract import new_id

HERE = Path(__file__).parents[1]
KILLS = 50


def environment(**more):
    path = os.pathsep.join(map(os.path.abspath, filter(None, sys.path)))
    return {**os.environ, "PYTHONPATH": path, **more}


# Kills


def kill_a_writer(server, after_s):
    """Have a writer started, kill it some time after its first row; give the ids that it said are committed."""
    server.stdin.write("\n")
    server.stdin.flush()
    pid = int(server.stdout.readline())
    said = [server.stdout.readline()]
    time.sleep(after_s)
    os.kill(pid, signal.SIGKILL)
    while (line := server.stdout.readline()) != "killed\n":
        said.append(line)
    assert all(line.endswith(" 1\n") for line in said)
    return [line.split()[0] for line in said]


@pytest.mark.slow
def test_kills_at_50_instants_lose_no_committed_record_and_break_nothing(tmp_path):
    chance = random.Random(7)
    said, recorded = 0, 0
    command = [sys.executable, str(HERE / "evidence_writer.py"), str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment(), **pipes) as server:
        for _ in range(KILLS):
            newest = kill_a_writer(server, chance.uniform(0, 0.15))
            with closing(sqlite3.connect(tmp_path / "verdicts.sqlite")) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                found = [row[0] for row in connection.execute("SELECT id FROM verdicts ORDER BY seq")]
            assert len(set(found)) == len(found)
            # What was said to be committed is there, in its order; of what was not said only the one in flight.
            assert found[recorded : recorded + len(newest)] == newest
            assert len(found) - recorded - len(newest) <= 1
            recorded, said = len(found), said + len(newest)
        server.stdin.close()
    assert server.returncode == 0 and said > KILLS
    images = list(tmp_path.rglob("*.jpg"))
    assert len(images) > KILLS
    for path in images:
        read_image(path)
    with closing(open_store(tmp_path)) as store:
        wait_until(lambda: not list(tmp_path.rglob("*.part")))
        assert sum(store.counts().values()) == recorded
        assert store.add(*Line().part())


def test_what_lies_on_the_disk_after_a_second_is_enough(tmp_path):
    """A loss of power leaves what was brought to the disk: database and log, without the memory beside them."""
    with closing(open_store(tmp_path / "store", evidence="none")) as store:
        added = [part[0].id for part in Line().parts(300) if store.add(*part)]
        bring_to_disk(tmp_path / "store" / "verdicts.sqlite")
        (tmp_path / "after").mkdir()
        for name in ("verdicts.sqlite", "verdicts.sqlite-wal"):
            shutil.copy(tmp_path / "store" / name, tmp_path / "after" / name)
    with closing(open_store(tmp_path / "after")) as store:
        assert ids(store.verdicts(limit=1000)) == added[::-1]


def test_the_log_stays_short(tmp_path):
    line, sizes = Line(), []
    with closing(open_store(tmp_path, evidence="none")) as store:
        for _ in range(3):
            for part in line.parts(1000):
                assert store.add(*part)
            bring_to_disk(tmp_path / "verdicts.sqlite")
            sizes.append((tmp_path / "verdicts.sqlite-wal").stat().st_size)
        assert store.counts()["ok"] == 3000
    assert max(sizes) > MAX_LOG and max(sizes) < 3 * MAX_LOG, sizes


# Full disks


def fill(disk, leave=0):
    """Take all space of a disk, but what is to be left."""
    path = disk / "others.bin"
    path.write_bytes(b"")
    with open(path, "ab", buffering=0) as file:
        free = shutil.disk_usage(disk).free - leave
        try:
            while free > 0:
                free -= file.write(b"\0" * min(free, 65536))
        except OSError:
            pass
    return path


def noisy(part, seed=0):
    frame, verdict = part
    image = np.random.default_rng(seed).integers(0, 255, (240, 320, 3), np.uint8)
    return replace(frame, image=image), verdict


def test_a_full_disk_stops_images_and_then_records_and_never_the_line(tmp_path):
    line = Line()
    with full_disk(tmp_path, 2048) as disk:
        with closing(open_store(disk)) as store:
            ahead = line.parts(5)
            for part in ahead:
                assert store.add(*part)
            others = fill(disk)
            slowest = 0.0
            during = [noisy(line.part(0.9)) for _ in range(150)]
            for part in during:
                begin = time.perf_counter()
                store.add(*part)
                store.keep(*part, ())
                slowest = max(slowest, time.perf_counter() - begin)
            wait_until(lambda: len(store.problems()) == 2)
            records, images = store.problems()
            assert records.startswith("records are not written: database or disk is full; ") and "0 lost" in records
            assert images.startswith("images are not kept: the disk is full; ")
            assert slowest < 5  # of the 10 that it may take
            wait_until(lambda: store.status()["images_waiting"] == 0)
            dropped = store.status()["images_dropped"]
            assert dropped + store.status()["images_written"] == 300 and dropped > 290
            others.unlink()
            wait_until(lambda: store.status()["rows_waiting"] == 0)
            last = line.part(0.9)
            assert store.add(*last)
            store.keep(*last, ())
            wait_until(lambda: store.problems() == ())
            wait_until(lambda: store.status()["images_waiting"] == 0)
            everything = [frame.id for frame, _ in (*ahead, *during, last)]
            assert ids(store.verdicts(limit=1000)) == everything[::-1]
            assert store.status()["images_dropped"] == dropped
            assert len(store.verdict(last[0].id)["images"]) == 2
        for path in disk.rglob("*.jpg"):
            read_image(path)
        assert not list(disk.rglob("*.part"))


def test_a_disk_that_is_full_at_the_start_keeps_no_daemon_from_starting(tmp_path):
    line = Line()
    with full_disk(tmp_path, 512) as disk:
        others = fill(disk)
        with closing(open_store(disk)) as store:
            part = line.part()
            assert not store.add(*part)
            wait_until(lambda: store.problems())
            assert "records are not written" in store.problems()[0]
            others.unlink()
            wait_until(lambda: store.problems() == ())
            assert ids(store.verdicts()) == [part[0].id]


def test_images_leave_some_of_the_disk_free(tmp_path):
    with full_disk(tmp_path, 8192) as disk:
        fill(disk, leave=3 * 2**20)
        with closing(open_store(disk, free_mib=4)) as store:
            frame = keep(store, Line(), 0.9)
            wait_until(lambda: store.problems())
            assert store.problems()[0].startswith(
                "images are not kept: 2 MiB of the disk are free, less than free_mib=4"
            )
            assert store.verdict(frame.id)["images"] == []
            assert len(store.verdicts()) == 1


def test_a_database_that_someone_has_locked_delays_one_verdict_a_little(tmp_path):
    line = Line()
    with closing(open_store(tmp_path, commit_within_ms=250)) as store:
        wait_until(lambda: store.add(*line.part()))
        count = store.counts()["ok"]
        with closing(sqlite3.connect(tmp_path / "verdicts.sqlite")) as other:
            other.execute("BEGIN IMMEDIATE")
            begin = time.perf_counter()
            for part in line.parts(50):
                assert not store.add(*part)
            assert time.perf_counter() - begin < 5  # not 50 times 250 ms
            assert "the database does not answer; 50 wait, 0 lost" in store.problems()[0]
            other.rollback()
        wait_until(lambda: store.status()["rows_waiting"] == 0)
        assert store.problems() == () and store.counts()["ok"] == count + 50


def test_whoever_asked_hears_of_a_row_once_it_is_committed_however_late(tmp_path):
    line, heard = Line(), []
    with closing(open_store(tmp_path)) as store:
        for frame, verdict in line.parts(2):
            store.add(frame, verdict, lambda: heard.append("free"))
        wait_until(lambda: heard == ["free", "free"])
        with closing(sqlite3.connect(tmp_path / "verdicts.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            assert not store.add(*line.part(0.1), lambda: heard.append("locked"))
            assert heard == ["free", "free"]
            other.execute("ROLLBACK")
        wait_until(lambda: heard == ["free", "free", "locked"])


# Retention


def test_the_oldest_images_make_room(tmp_path):
    line = Line()
    with closing(open_store(tmp_path, most_mib=1, after=0)) as store:
        for seed in range(20):
            frame, verdict = noisy(line.part(0.9), seed)
            assert store.add(frame, verdict)
            store.keep(frame, verdict, ())
        wait_until(lambda: store.status()["images_written"] == 40)
        newest_first = sorted(ids(store.verdicts()), reverse=True)  # two swap where the clock goes back by a little
        kept = [bool(store.verdict(id)["images"]) for id in newest_first]
        assert len(kept) == 20 and kept == sorted(kept, reverse=True) and 3 <= sum(kept) < 20
        used = sum(path.stat().st_size for path in tmp_path.rglob("*.jpg"))
        assert used <= 2**20 and store.status()["images_mib"] == used / 2**20
        assert store.problems() == ()


class Clock:
    """A wall clock that is set."""

    def __init__(self, at):
        self.at = at

    def __call__(self):
        return self.at


NOW = datetime(2026, 5, 6, 12, tzinfo=timezone.utc)


def add_at(folder, clock, line, count=3):
    """Records of a process that ran at some time."""
    added = []
    with closing(open_store(folder, now=clock, keep_days=30)) as store:
        for part in line.parts(count, 0.9):
            assert store.add(*part)
            store.keep(*part, ())
            added.append(part[0].id)
        wait_until(lambda: store.status()["images_written"] == 2 * count)
    return added


def remove_old(folder, clock):
    with closing(open_store(folder, now=clock, keep_days=30)) as store:
        removed = store.remove_old()
        return removed, ids(store.verdicts())


def test_what_is_too_old_goes_with_its_images_and_marks(tmp_path):
    line, clock = Line(), Clock(NOW - timedelta(days=31))
    old = add_at(tmp_path, clock, line)
    with closing(open_store(tmp_path)) as store:
        store.mark_false_reject(old[0], by="anna")
    clock.at = NOW - timedelta(days=29)
    young = add_at(tmp_path, clock, line)
    clock.at = NOW
    assert remove_old(tmp_path, clock) == (3, young[::-1])
    assert sorted(path.name for path in tmp_path.glob("pictures/*/*")) == sorted(young)
    with closing(sqlite3.connect(tmp_path / "verdicts.sqlite")) as connection:
        assert connection.execute("SELECT count(*) FROM marks").fetchone() == (0,)
    # Nobody needs to ask for it.
    clock.at = NOW + timedelta(days=90)
    with closing(open_store(tmp_path, now=clock, keep_days=30)) as store:
        wait_until(lambda: store.status()["rows_removed"] == 3)
        assert store.verdicts() == []
    # A sequence that began again would list what comes next as if it were oldest.
    add_at(tmp_path, clock, line)
    with closing(sqlite3.connect(tmp_path / "verdicts.sqlite")) as connection:
        assert connection.execute("SELECT min(seq) FROM verdicts").fetchone() == (7,)


@pytest.mark.parametrize("back", [timedelta(hours=3), timedelta(days=20 * 365)])
def test_a_clock_that_was_set_back_makes_nothing_old_and_changes_no_order(tmp_path, back):
    line, clock = Line(), Clock(NOW)
    first = add_at(tmp_path, clock, line)
    clock.at = NOW - back
    second = add_at(tmp_path, clock, line)
    clock.at = NOW + timedelta(hours=1)
    third = add_at(tmp_path, clock, line)
    assert remove_old(tmp_path, clock) == (0, [*third[::-1], *second[::-1], *first[::-1]])


def test_what_a_process_has_just_written_is_not_old_when_its_clock_leaps(tmp_path):
    # A computer without a battery begins in 1970 and learns the time from the network.
    clock = Clock(datetime(1970, 1, 1, 0, 5, tzinfo=timezone.utc))
    with closing(open_store(tmp_path, now=clock, keep_days=30)) as store:
        store.remove_old()
        added = [part[0].id for part in Line().parts(3) if store.add(*part)]
        clock.at = NOW
        assert store.remove_old() == 0
        assert ids(store.verdicts()) == added[::-1]


SET_BACK = """
import sys, time
from datetime import datetime, timezone
from pathlib import Path
from patience import wait_until
from test_evidence import open_store
from verdicts import Line
store = open_store(Path(sys.argv[1]), before=0, after=0)
line = Line()
for index in range(6):
    if index == 3:
        deadline = time.monotonic() + 30
        before = datetime.now(timezone.utc)
        Path(sys.argv[1], "draft").write_text("-2d")
        Path(sys.argv[1], "draft").replace(sys.argv[2])  # at once: libfaketime reads it whenever a time is asked for
        while datetime.now(timezone.utc) >= before:
            assert time.monotonic() < deadline, "the clock was not set back"
    part = line.part(0.9)
    assert store.add(*part)
    store.keep(*part)
    print(part[0].id, flush=True)
    until = time.monotonic() + 0.01
    while time.monotonic() < until:  # under libfaketime a sleep now and then ends with EINVAL
        pass
store.close()
"""


def test_the_systems_clock_set_back_under_way_changes_no_order(tmp_path):
    (tmp_path / "time").write_text("+0")
    clock = {
        "LD_PRELOAD": require("faketime"),
        "FAKETIME_TIMESTAMP_FILE": str(tmp_path / "time"),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    command = [sys.executable, "-c", SET_BACK, str(tmp_path), str(tmp_path / "time")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(**clock), timeout=60)
    assert done.returncode == 0, done.stderr
    said = done.stdout.split()
    assert said[3:] + said[:3] == sorted(said)  # ids alone have another order
    with closing(open_store(tmp_path)) as store:
        records = store.verdicts()
        assert ids(records) == said[::-1]
        assert datetime.fromisoformat(records[0]["judged_at"]) < datetime.fromisoformat(records[-1]["judged_at"])
        assert [place.partition("/")[2] for place in store._folder.oldest()] == said
        assert all(store.verdict(id)["images"] == ["frame.jpg", "heat.jpg"] for id in said)


def test_pipelines_that_share_a_camera_share_shelves_and_never_a_folder(tmp_path):
    folder = ImageFolder(tmp_path)
    at = NOW
    places = []
    for number in range(600):
        captured = at + timedelta(milliseconds=50 * number)
        late, early = new_id(captured), new_id(captured - timedelta(milliseconds=35))
        places += [folder.place(late), folder.place(late), folder.place(early)]
    assert len(set(places)) == len(places)
    shelves = {place.partition("/")[0] for place in places}
    assert len(shelves) <= 2 * len(places) / 256 + 1
    for place in places[:6]:
        folder.write(place, "frame.jpg", b"x")
    assert sorted(folder.oldest()) == sorted(places[:6])
    set_back = folder.place(new_id(at - timedelta(hours=1)))
    assert set_back.partition("/")[0] > max(shelves)
