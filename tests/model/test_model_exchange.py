"""A model that is replaced: whatever ends the program, and at any instant, one is in its place and none is lost."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edgead.artifact import earlier_versions as versions
from edgead.artifact.earlier_versions import MAX_VERSIONS, earlier_versions, keep_and_replace, replace, restore_missing
from edgead.files.atomic import remove_abandoned

# For each line that it gets, a child that replaces the model again and again, from that number on.
REPLACES = """
import os, sys
from itertools import count
from pathlib import Path
from edgead.artifact.earlier_versions import keep_and_replace
folder = Path(sys.argv[1])
for line in sys.stdin:
    child = os.fork()
    if child:
        print(child, flush=True)
        os.waitpid(child, 0)
        print("ended", flush=True)
        continue
    for number in count(int(line)):
        draft = folder / f".draft{number}"
        draft.mkdir()
        (draft / "manifest.json").write_text(str(number))
        keep_and_replace(folder / "model", draft)
"""

# Replaces the model by the draft, which nothing keeps, and is killed at that step.
DIES = """
import os, signal, sys
from pathlib import Path
from edgead.artifact.earlier_versions import replace
left = int(sys.argv[2])
def counted(step):
    def run(*given, **options):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return step(*given, **options)
    return run
for name in ("mkdir", "rename", "rmdir"):
    setattr(os, name, counted(getattr(os, name)))
replace(Path(sys.argv[1], "model"), Path(sys.argv[1], "draft"))
"""


def write(folder, words):
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(words)
    return folder


def words(folder):
    return (folder / "manifest.json").read_text()


@pytest.fixture(params=["exchange", "two renames"])
def kind(request, monkeypatch):
    if request.param == "two renames":

        def refused(one, other):
            raise NotImplementedError

        monkeypatch.setattr(versions, "exchange_names", refused)
    return request.param


def test_a_model_takes_the_place_of_one_which_is_kept(tmp_path, kind):
    model = write(tmp_path / "model", "one")
    keep_and_replace(model, write(tmp_path / "draft", "two"))
    assert words(model) == "two" and [words(each) for each in earlier_versions(model)] == ["one"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.versions"]


def test_what_cannot_be_exchanged_stays_where_it_was(tmp_path, kind, monkeypatch):
    model = write(tmp_path / "model", "one")
    draft = write(tmp_path / "draft", "two")
    rename = Path.rename

    def fails(path, target):
        if {path, Path(target)} & {model}:
            raise OSError(errno.EIO, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fails)
    if kind == "exchange":
        monkeypatch.setattr(versions, "exchange_names", lambda one, other: fails(model, other))
    with pytest.raises(OSError, match="Input/output"):
        keep_and_replace(model, draft)
    assert words(model) == "one" and words(draft) == "two" and earlier_versions(model) == []


@pytest.mark.skipif(sys.platform != "linux", reason="EXCHANGE AT ONCE NOT TESTED: only Linux has renameat2")
def test_whoever_looks_for_a_model_while_it_is_replaced_finds_one(tmp_path):
    model = write(tmp_path / "model", "0")
    missing, ended = [], threading.Event()

    def look():
        while not ended.is_set():
            if not model.exists():
                missing.append(time.monotonic())

    looking = threading.Thread(target=look)
    looking.start()
    for number in range(500):
        keep_and_replace(model, write(tmp_path / "draft", str(number)))
    ended.set()
    looking.join()
    assert missing == []


@pytest.mark.skipif(sys.platform != "linux", reason="EXCHANGE AT ONCE NOT TESTED: only Linux has renameat2")
def test_killed_300_times_while_it_is_replaced_a_model_is_in_its_place(tmp_path):
    chance, model, next_number = random.Random(0), write(tmp_path / "model", "-1"), 0
    command = [sys.executable, "-c", REPLACES, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    with subprocess.Popen(command, **pipes) as parent:
        for _ in range(300):
            parent.stdin.write(f"{next_number}\n")
            child = int(parent.stdout.readline())
            time.sleep(chance.uniform(0, 0.02))
            os.kill(child, signal.SIGKILL)
            assert parent.stdout.readline() == "ended\n"
            assert model.is_dir(), sorted(path.name for path in tmp_path.iterdir())
            # The newest one that is kept is the one before, or newer.
            now = int(words(model))
            kept = [int(words(each)) for each in earlier_versions(model)[-MAX_VERSIONS:]]  # others are being removed
            assert not kept or max(kept) >= now - 1
            next_number = max([now, *kept]) + 1
            for left in tmp_path.glob(".draft*"):
                (left / "manifest.json").unlink(missing_ok=True)
                left.rmdir()
    assert next_number > 30  # how many there were in between depends on what else the machine does


def test_a_model_that_is_missing_is_put_back_from_its_newest_version(tmp_path):
    model = write(tmp_path / "model", "one")
    for name in ("two", "three"):
        keep_and_replace(model, write(tmp_path / "draft", name))
    assert restore_missing(model) is None
    (model / "manifest.json").unlink()
    model.rmdir()
    assert restore_missing(model).name == "2" and words(model) == "two"
    assert [words(each) for each in earlier_versions(model)] == ["one"]
    assert restore_missing(tmp_path / "another") is None


@pytest.mark.skipif(sys.platform != "linux", reason="EXCHANGE AT ONCE NOT TESTED: only Linux has renameat2")
def test_killed_at_any_step_while_a_model_is_replaced_for_good_nothing_hidden_stays(tmp_path):
    for step in range(20):
        model = write(tmp_path / str(step) / "model", "one")
        write(tmp_path / str(step) / "draft", "two")
        ended = subprocess.run([sys.executable, "-c", DIES, str(model.parent), str(step)])
        remove_abandoned(model.parent)
        assert words(model) in ("one", "two")
        assert {path.name for path in model.parent.iterdir()} <= {"model", "model.versions", "draft"}, step
        assert all(words(each) in ("one", "two") for each in earlier_versions(model)), step
        if ended.returncode == 0:
            break
    assert ended.returncode == 0 and step > 3
    assert [path.name for path in model.parent.iterdir()] == ["model"]


def test_a_model_that_is_replaced_for_good_leaves_nothing(tmp_path, kind):
    model = write(tmp_path / "model", "one")
    replace(model, write(tmp_path / "draft", "two"))
    assert words(model) == "two" and [path.name for path in tmp_path.iterdir()] == ["model"]
