"""A folder that others fill: each image, complete, in its order, until it is settled; and what is no image."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import cv2
import pytest
from fakes import numbered, read_number
from patience import MAX_S, wait_until

from edgead.files.folder_lock import FolderLock, HeldFolderError
from edgead.images.files import decode_image, write_image
from edgead.sources import Counters, SourceError, beside, open_source
from edgead.sources.reopened_camera import SupervisedCamera
from edgead.sources.settings import CameraSection
from edgead.sources.settling import Unsettled


def encoded(number):
    return cv2.imencode(".png", numbered(number))[1].tobytes()


class Taker:
    """Takes frames of a watched folder, in a thread, until it is closed."""

    def __init__(self, folder, **options):
        query = "&".join(f"{name}={value}" for name, value in {"stable_ms": 20, **options}.items())
        self.source = open_source(f"watch:{folder}?{query}")
        self.frames, self.fault = [], None
        self._thread = threading.Thread(target=self._take)
        self._thread.start()

    def _take(self):
        try:
            for frame in self.source:
                self.frames.append(frame)
        except SourceError as error:
            self.fault = str(error)

    @property
    def numbers(self):
        return [read_number(frame.image) for frame in self.frames]

    def expect(self, *numbers):
        wait_until(lambda: len(self.frames) >= len(numbers) or self.fault is not None)
        assert self.numbers == list(numbers) and self.fault is None

    def close(self):
        self.source.close()
        self._thread.join(MAX_S)
        assert not self._thread.is_alive()


def taker(folder, **options):
    return closing(Taker(folder, **options))


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def put_away(folder, after, count):
    """Whether so many images were put away; of those that are deleted, whether none is left."""
    if after == "keep":
        return len((folder / ".edgead-taken").read_text().splitlines()) == count
    if after == "move":
        return len(names(folder / "done")) == count
    return not any(name.endswith(".png") for name in [*names(folder), *names(folder / "taken")])


def test_one_alone_takes_the_images_and_the_other_learns_who_that_is_until_it_ends(tmp_path):
    write_image(tmp_path / "0.png", numbered(0))
    with taker(tmp_path) as first:
        first.expect(0)
        with taker(tmp_path) as second:
            wait_until(lambda: second.fault is not None)
        held = (
            rf"{tmp_path}: is held by process {os.getpid()} \(.*\): each would take the other's images; stop that one"
        )
        assert re.match(held, second.fault) and second.frames == []
    write_image(tmp_path / "1.png", numbered(1))
    with taker(tmp_path) as third:
        third.expect(1)


def test_what_holds_a_folder_is_named_without_addresses_as_they_may_have_passwords(tmp_path):
    hold = "import sys; from pathlib import Path; from edgead.files.folder_lock import FolderLock; "
    hold += "lock = FolderLock(Path(sys.argv[1]), ''); print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", hold, tmp_path, "mqtt://me:password@host/T"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(HeldFolderError, match=f"process {other.pid} ") as found:
            FolderLock(tmp_path, "")
        other.stdin.close()
    assert str(tmp_path) in str(found.value) and "password" not in str(found.value)


def test_who_is_killed_holds_the_folder_no_longer(tmp_path):
    asked, answer = os.pipe()
    holder = os.fork()
    if holder == 0:
        with closing(FolderLock(tmp_path, "")):
            os.write(answer, b"held")
            signal.pause()
    try:
        os.read(asked, 4)
        with taker(tmp_path) as second:
            wait_until(lambda: second.fault is not None)
        assert f"is held by process {holder}" in second.fault
    finally:
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
    write_image(tmp_path / "0.png", numbered(0))
    with taker(tmp_path) as third:
        third.expect(0)


@pytest.mark.parametrize("after", ["move", "delete", "keep"])
def test_each_image_is_given_once_also_after_a_restart(tmp_path, after):
    for number, name in enumerate(["b.png", "a.png"]):
        write_image(tmp_path / name, numbered(number))
        os.utime(tmp_path / name, ns=(0, number * 10**9))
    (tmp_path / "log.txt").write_text("not an image")
    with taker(tmp_path, after=after) as first:
        first.expect(0, 1)  # in the order of their times, whatever they are called
        assert [frame.name for frame in first.frames] == ["b.png", "a.png"]
        write_image(tmp_path / "c.png", numbered(2))
        first.expect(0, 1, 2)
        wait_until(lambda: put_away(tmp_path, after, 3))
    left = {"move": [], "delete": [], "keep": [".edgead-taken", "a.png", "b.png", "c.png"]}
    assert sorted({*names(tmp_path)} - {"done", "taken", "log.txt"}) == left[after]
    assert names(tmp_path / "taken") == []
    assert names(tmp_path / "done") == (["a.png", "b.png", "c.png"] if after == "move" else [])
    write_image(tmp_path / "b.png", numbered(3))  # another image, under a name that was there before
    with taker(tmp_path, after=after) as second:
        second.expect(3)
        wait_until(lambda: put_away(tmp_path, after, 3 if after == "keep" else 4))  # the old b.png is forgotten
    if after == "move":
        assert names(tmp_path / "done") == ["a.png", "b-2.png", "b.png", "c.png"]


def test_an_upload_is_waited_for(tmp_path):
    data = encoded(5)
    with taker(tmp_path, stable_ms=400) as one:
        with open(tmp_path / "a.png", "wb") as upload:
            for begin in range(0, len(data), max(1, len(data) // 4)):
                upload.write(data[begin : begin + max(1, len(data) // 4)])
                upload.flush()
                threading.Event().wait(0.12)
        one.expect(5)
    assert names(tmp_path / "failed") == []


def test_what_is_no_image_goes_aside_with_its_reason_and_the_next_one_is_given(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(1)[:-20])
    (tmp_path / "b.jpg").write_bytes(b"")
    write_image(tmp_path / "c.png", numbered(2))
    with taker(tmp_path) as one:
        one.expect(2)
        wait_until(lambda: len(names(tmp_path / "failed")) == 4)
        assert one.source.counters == Counters(captured=3, unreadable=2)
    assert names(tmp_path / "failed") == ["a.png", "a.png.txt", "b.jpg", "b.jpg.txt"]
    assert "truncated PNG" in (tmp_path / "failed" / "a.png.txt").read_text()
    assert "the file is empty" in (tmp_path / "failed" / "b.jpg.txt").read_text()
    (tmp_path / "d.png").write_bytes(b"")
    camera = SupervisedCamera("top", CameraSection(uri=f"watch:{tmp_path}?stable_ms=20"))
    camera.start()
    wait_until(lambda: camera.status().corrupt == 1)  # without a frame after it
    assert camera.lost == 1
    camera.close()


def test_links_and_fifos_are_never_opened(tmp_path, caplog):
    watched = tmp_path / "watched"
    watched.mkdir()
    write_image(tmp_path / "secret.png", numbered(1))
    (watched / "link.png").symlink_to(tmp_path / "secret.png")
    os.mkfifo(watched / "fifo.png")
    write_image(watched / ".hidden.png", numbered(2))
    write_image(watched / "c.png", numbered(3))
    with taker(watched) as one:
        one.expect(3)
    assert names(watched) == [".hidden.png", "done", "fifo.png", "link.png", "taken"]
    assert sorted(message.rpartition("/")[2] for message in caplog.messages) == [
        "fifo.png: is no regular file, it is left alone",
        "link.png: is no regular file, it is left alone",
    ]


def test_an_image_that_cannot_be_taken_out_is_not_given_and_says_so(tmp_path):
    write_image(tmp_path / "a.png", numbered(1))
    (tmp_path / "done").write_text("in the way")
    with taker(tmp_path) as one:
        wait_until(lambda: one.fault)
    assert one.frames == [] and "is a link or no folder (done)" in one.fault


def test_a_torn_journal_forgets_only_what_was_torn(tmp_path):
    for number in range(2):
        write_image(tmp_path / f"{number}.png", numbered(number))
    with taker(tmp_path, after="keep") as first:
        first.expect(0, 1)
    journal = tmp_path / ".edgead-taken"
    journal.write_bytes(journal.read_bytes()[:-5] + b"\n[1]\n{}\n\xff\n")
    with taker(tmp_path, after="keep") as second:
        second.expect(1)


def test_a_folder_that_is_not_there_is_no_source(tmp_path):
    for uri in ("watch:", f"watch:{tmp_path}/gone", f"watch:{tmp_path}?after=burn", f"watch:{tmp_path}?stable_ms=-1"):
        with pytest.raises(SourceError):
            open_source(uri)
    assert beside("watch:in?after=keep", tmp_path) == f"watch:{tmp_path}/in?after=keep"
    assert beside("watch:/srv/in", tmp_path) == "watch:/srv/in"


def test_a_camera_of_a_folder_waits_for_its_taker_and_is_not_stalled_where_nothing_comes(tmp_path):
    section = CameraSection(uri=f"watch:{tmp_path}?stable_ms=0", stalled_after_s=0.1)
    camera = SupervisedCamera("top", section)
    mailbox = camera.subscribe()
    camera.start()
    with closing(camera):
        wait_until(lambda: camera.status().state == "streaming")
        for number in range(3):
            write_image(tmp_path / f"{number}.png", numbered(number))
        wait_until(lambda: camera.status().captured > 0)
        frames = [mailbox.get(MAX_S) for _ in range(3)]
        assert sorted(read_number(frame.image) for frame in frames) == [0, 1, 2] and mailbox.dropped == 0
        wait_until(lambda: (camera.status().age_s or 0) > 0.3)
        assert camera.status().state == "streaming"


def test_the_time_of_whoever_takes_the_images_holds_up_no_later_one(tmp_path):
    for number in range(20):
        write_image(tmp_path / f"{number:02}.png", numbered(number))
    source = open_source(f"watch:{tmp_path}?stable_ms=0")
    with closing(source):
        images, begin_s = iter(source), time.monotonic()
        for _ in range(20):
            next(images)
            time.sleep(0.1)  # judges it
        took_s = time.monotonic() - begin_s
        write_image(tmp_path / "20.png", numbered(20))
        begin_s = time.monotonic()
        assert read_number(next(images).image) == 20
        assert time.monotonic() - begin_s < took_s


@pytest.mark.parametrize("name", ["done", "failed"])
def test_no_image_leaves_the_folder_by_a_link(tmp_path, name):
    watched, outside = tmp_path / "watched", tmp_path / "outside"
    watched.mkdir()
    outside.mkdir()
    (watched / name).symlink_to(outside)
    (watched / "a.png").write_bytes(encoded(1) if name == "done" else b"no image")
    with taker(watched) as one:
        wait_until(lambda: one.fault)
        assert one.frames == [] and f"is a link or no folder ({name})" in one.fault
    assert names(outside) == [] and len(list(watched.rglob("a.png"))) == 1


def test_a_reason_overwrites_nothing_and_follows_no_link(tmp_path):
    watched, victim = tmp_path / "watched", tmp_path / "victim.json"
    (watched / "failed").mkdir(parents=True)
    victim.write_text("mine")
    (watched / "failed" / "a.png.txt").symlink_to(victim)
    (watched / "a.png").write_bytes(b"no image")
    with taker(watched) as one:
        wait_until(lambda: "a.png" in names(watched / "failed"))
        write_image(watched / "b.png", numbered(2))
        one.expect(2)
    assert victim.read_text() == "mine" and (watched / "failed" / "a.png.txt").is_symlink()


@pytest.mark.parametrize("kind", ["link", "FIFO", "folder"])
def test_a_journal_that_is_no_file_of_ours_is_a_fault_and_hangs_nothing(tmp_path, kind):
    watched, victim = tmp_path / "watched", tmp_path / "victim"
    watched.mkdir()
    victim.write_text("mine")
    journal = watched / ".edgead-taken"
    {"link": lambda: journal.symlink_to(victim), "FIFO": lambda: os.mkfifo(journal), "folder": journal.mkdir}[kind]()
    write_image(watched / "a.png", numbered(1))
    with taker(watched, after="keep") as one:
        wait_until(lambda: one.fault)
        assert one.frames == [] and "is no regular file: remove it (.edgead-taken)" in one.fault
    assert victim.read_text() == "mine"


def test_a_journal_that_is_put_in_the_place_of_ours_is_not_followed(tmp_path):
    watched, victim = tmp_path / "watched", tmp_path / "victim"
    watched.mkdir()
    victim.write_text("mine")
    with taker(watched, after="keep") as one:
        wait_until(lambda: names(watched) == [".edgead-taken"])
        (watched / ".edgead-taken").unlink()
        (watched / ".edgead-taken").symlink_to(victim)
        write_image(watched / "a.png", numbered(1))
        wait_until(lambda: one.fault)
        assert "symbolic links (.edgead-taken)" in one.fault
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("kind", ["folder", "link", "full disk"])
def test_nothing_under_the_name_of_the_mark_ends_a_camera(tmp_path, monkeypatch, kind):
    watched, victim = tmp_path / "watched", tmp_path / "victim"
    (watched / "taken").mkdir(parents=True)
    victim.write_text("mine")
    mark = watched / ".edgead-reading"
    if kind == "folder":
        mark.mkdir()
        (mark / "x").touch()
    elif kind == "link":
        mark.symlink_to(victim)
    else:

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("edgead.sources.watched.json.dump", full)
    with taker(watched) as one:
        for number in (1, 2):
            write_image(watched / f"{number}.png", numbered(number))
        one.expect(1, 2)
        assert not one.fault
    assert victim.read_text() == "mine" and not os.path.lexists(mark)


def test_numbers_that_no_file_has_do_not_stop_a_journal(tmp_path):
    (tmp_path / ".edgead-taken").write_text('["a.png", 1e999, 1, 1]\n' + "[" * 100_000 + "\n")
    write_image(tmp_path / "a.png", numbered(1))
    with taker(tmp_path, after="keep") as one:
        one.expect(1)


@pytest.mark.parametrize("after", ["move", "delete"])
def test_what_was_taken_out_is_what_was_read(tmp_path, monkeypatch, after):
    """An image that another one replaces while it is read is not judged for that one."""
    write_image(tmp_path / "a.png", numbered(1))

    def replaced_meanwhile(data, **options):
        if read_number(decode_image(data)) == 1:
            write_image(tmp_path / "new.part.png", numbered(2))
            (tmp_path / "new.part.png").rename(tmp_path / "a.png")
        return decode_image(data, **options)

    monkeypatch.setattr("edgead.sources.watched.decode_image", replaced_meanwhile)
    with taker(tmp_path, after=after) as one:
        one.expect(1, 2)
    assert [name for name in names(tmp_path) if name.endswith(".png")] == []
    if after == "move":
        done = [read_number(cv2.imread(str(path))) for path in sorted((tmp_path / "done").iterdir())]
        assert sorted(done) == [1, 2]


def frames_of(folder, after, count, *, settled):
    """Take frames as a camera does whose process ends then; gives their numbers."""
    source = open_source(f"watch:{folder}?stable_ms=0&after={after}")
    source.holds = True
    with closing(source):
        images = iter(source)
        frames = [next(images) for _ in range(count)]
        for frame in frames[:settled]:
            source.settle(frame.id)
    return [read_number(frame.image) for frame in frames]


@pytest.mark.parametrize("after", ["move", "delete", "keep"])
def test_what_is_not_settled_is_given_again_first_and_named(tmp_path, after, caplog):
    for number in range(4):
        write_image(tmp_path / f"{number}.png", numbered(number))
        os.utime(tmp_path / f"{number}.png", ns=(0, number * 10**9))
    assert frames_of(tmp_path, after, 3, settled=1) == [0, 1, 2]
    if after != "keep":
        assert names(tmp_path / "taken") == ["1.png", "2.png"]
    assert names(tmp_path / "done") == (["0.png"] if after == "move" else [])
    assert frames_of(tmp_path, after, 3, settled=3) == [1, 2, 3]
    if after != "keep":
        assert caplog.messages[-1].endswith("are not known to have a verdict, they come again: 1.png, 2.png")
    write_image(tmp_path / "4.png", numbered(4))
    assert frames_of(tmp_path, after, 1, settled=1) == [4]


def test_an_image_without_a_verdict_is_never_deleted(tmp_path):
    """Two pipelines take each image: one judges the first, neither judges the second, as in a pause."""
    for number in range(2):
        write_image(tmp_path / f"{number}.png", numbered(number))
    source = open_source(f"watch:{tmp_path}?stable_ms=0&after=delete")
    source.holds, unsettled = True, Unsettled()
    with closing(source):
        for frame, judged in zip(source, [True, False], strict=False):
            unsettled.add(frame.id, source, 2)
            unsettled.settle(frame.id, judged=judged)
            unsettled.settle(frame.id, judged=False)
            if not judged:
                break
    assert names(tmp_path / "taken") == [] and names(tmp_path / "done") == ["1.png"]


def test_what_was_taken_to_be_moved_is_given_also_where_images_are_kept_now(tmp_path):
    write_image(tmp_path / "0.png", numbered(0))
    assert frames_of(tmp_path, "move", 1, settled=0) == [0]
    assert frames_of(tmp_path, "keep", 1, settled=1) == [0]
    assert names(tmp_path / "taken") == [] and names(tmp_path / "done") == ["0.png"]


@pytest.mark.parametrize("after", ["move", "keep"])
def test_an_image_that_ends_the_program_is_read_twice_and_then_goes_aside(tmp_path, monkeypatch, after):
    write_image(tmp_path / "a.png", numbered(1))

    class Ended(BaseException):
        """The end of the process, as far as files are concerned."""

    def end(data, **options):
        unlink = Path.unlink
        monkeypatch.setattr(Path, "unlink", lambda path, missing_ok=False: None)
        ends.append(lambda: monkeypatch.setattr(Path, "unlink", unlink))
        raise Ended

    ends = []
    for _ in range(2):
        with monkeypatch.context() as patched:
            patched.setattr("edgead.sources.watched.decode_image", end)
            with pytest.raises(Ended):
                frames_of(tmp_path, after, 1, settled=0)
            ends.pop()()
    write_image(tmp_path / "b.png", numbered(2))
    assert frames_of(tmp_path, after, 1, settled=1) == [2]
    assert "ended each time" in (tmp_path / "failed" / "a.png.txt").read_text()


def test_a_frame_is_settled_once_each_pipeline_has_said_so(tmp_path):
    camera = SupervisedCamera("top", CameraSection(uri=f"watch:{tmp_path}?stable_ms=0"))
    mailboxes = [camera.subscribe(), camera.subscribe()]
    camera.start()
    with closing(camera):
        write_image(tmp_path / "0.png", numbered(0))
        one, other = (mailbox.get(MAX_S) for mailbox in mailboxes)
        assert one.id == other.id
        camera.settle(one.id)
        time.sleep(0.3)
        assert names(tmp_path / "taken") == ["0.png"]
        camera.settle(one.id)
        wait_until(lambda: names(tmp_path / "done") == ["0.png"])
    assert names(tmp_path / "taken") == []
