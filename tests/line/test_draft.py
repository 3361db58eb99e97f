"""The draft of a model: whole at any time, bounded, and without loss."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_daemon import FakeDaemon
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from patience import wait_for

from edgead.errors import EdgeadError, NotNowError, SettingsError
from edgead.files import atomic
from edgead.images.files import ImageError, load_image
from edgead.line.daemon.commission import DraftError
from edgead.line.daemon.commission import draft as drafts
from edgead.line.daemon.commission.draft import Bounds, Draft, DraftSettings
from edgead.types import Frame


def part(number: int, size: tuple[int, int] = (24, 32)) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (*size, 3), np.uint8)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def draft(tmp_path) -> Draft:
    return Draft.begin(tmp_path / "conveyor", "conveyor", "Anna", Bounds(images=5, free_mib=0))


STEPS = st.lists(st.tuples(st.sampled_from(["add", "remove", "reopen"]), st.integers(0, 7)), max_size=14)


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps=STEPS)
def test_whatever_is_done_images_are_as_they_came_and_no_more_than_allowed(tmp_path, steps):
    shutil.rmtree(tmp_path / "conveyor", ignore_errors=True)
    bounds = Bounds(images=4, free_mib=0)
    draft = Draft.begin(tmp_path / "conveyor", "conveyor", "Anna", bounds)
    kept: dict[str, int] = {}
    for step, number in steps:
        if step == "reopen":
            draft = Draft.open(draft.folder, bounds)
        elif step == "remove" and kept:
            name = sorted(kept)[number % len(kept)]
            draft.remove(name)
            del kept[name]
        elif step == "add" and len(kept) == bounds.images:
            with pytest.raises(DraftError, match="as many as it may"):
                draft.add(part(number))
        elif step == "add":
            name, like = draft.add(part(number))
            if name is None:
                assert kept[like] == number
            else:
                assert number not in kept.values() and name not in kept
                kept[name] = number
    assert draft.images == sorted(kept)
    again = Draft.open(draft.folder, bounds)
    assert again.state == draft.state and again.images == draft.images and again.mib == draft.mib
    for name, number in kept.items():
        np.testing.assert_array_equal(load_image(draft.path(name)), part(number))


@pytest.mark.parametrize("failing", [1, 2])
def test_a_disk_that_is_full_leaves_the_draft_as_it_was(draft, monkeypatch, failing):
    draft.add(part(0))
    calls = []

    def replace(path, content, durable, mode):
        calls.append(path)
        if len(calls) == failing:
            raise OSError(28, "No space left on device", str(path))
        return real(path, content, durable, mode)

    real = atomic._replace
    monkeypatch.setattr(atomic, "_replace", replace)
    with pytest.raises(DraftError, match="No space left on device; free some space, or discard drafts"):
        draft.add(part(1))
    monkeypatch.undo()
    assert draft.images == ["000001.png"] == Draft.open(draft.folder).images
    name, _ = draft.add(part(1))  # it is not taken for one that is there
    assert name is not None


def test_too_much_for_the_disk_or_the_draft_is_refused(draft, monkeypatch):
    before = contents(draft.folder)
    draft.bounds = Bounds(mib=0.001, free_mib=0)
    with pytest.raises(DraftError, match="take some out, or learn"):
        draft.add(part(0))
    draft.bounds = Bounds(free_mib=500)
    monkeypatch.setattr(drafts.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 400 << 20}))
    with pytest.raises(DraftError, match=r"400 MiB left, 500 are kept free \(`store.free_mib`\)"):
        draft.add(part(0))
    assert contents(draft.folder) == before


def test_what_was_left_unfinished_goes_when_it_is_opened(draft):
    draft.add(part(0))
    before = contents(draft.folder)
    (draft.folder / "images" / ".000002.png.ab.part").write_bytes(b"half")
    (draft.folder / ".learnt-2-20.x").mkdir()
    (draft.folder / "learnt-1-20").mkdir()
    (draft.folder / "learnt-1-20" / "result.json").write_text("{}")
    assert Draft.open(draft.folder).images == ["000001.png"]
    assert contents(draft.folder) == before


def test_a_draft_that_is_damaged_says_so_and_can_be_discarded(draft):
    (draft.folder / "draft.json").write_text('{"camera": ')
    with pytest.raises(DraftError, match="cannot be read: discard it and begin again"):
        Draft.open(draft.folder)
    drafts.discard(draft.folder)
    assert Draft.open(draft.folder) is None and not draft.folder.exists()


def test_of_two_engineers_the_second_is_refused(draft):
    draft.change(DraftSettings(region=(1, 2, 10, 12)), 0, "Anna", (24, 32))
    with pytest.raises(DraftError, match="Anna has changed this draft meanwhile"):
        draft.change(DraftSettings(region=(0, 0, 5, 5)), 0, "Ben", (24, 32))
    assert Draft.open(draft.folder).state.drawn.region == (1, 2, 10, 12)


@pytest.mark.parametrize(
    "drawn",
    [
        DraftSettings(region=(30, 0, 10, 10)),
        DraftSettings(region=(0, 0, 10, 0)),
        DraftSettings(region=(1, 2, 3, 4, 5)),
        DraftSettings(ignored=((40, 0, 10, 10),)),
        DraftSettings(ignored=((0, 0, 32, 24),)),
    ],
)
def test_places_that_cannot_be_are_refused(draft, drawn):
    before = contents(draft.folder)
    with pytest.raises(SettingsError):
        draft.change(drawn, 0, "Anna", (24, 32))
    assert contents(draft.folder) == before


def test_a_camera_that_changes_its_size_is_refused(draft):
    draft.add(part(0))
    with pytest.raises(DraftError, match="gives 40x20 pixels now, the images of this draft have 32x24"):
        draft.add(part(1, (20, 40)))


def frame_of(image: np.ndarray, number: int) -> Frame:
    from fake_daemon import WHEN

    return Frame(image, number, number, WHEN, "conveyor", id=f"{number}")


def test_collecting_stops_when_there_are_enough_or_the_camera_is_lost(tmp_path):
    daemon = FakeDaemon(tmp_path)
    desk, camera = daemon.commissioning, daemon.cameras["conveyor"]
    desk.begin("conveyor", "Anna")
    with pytest.raises(DraftError, match="gives no frames"):
        desk.work("conveyor").take()
    desk.change("conveyor", {"wanted": 20}, revision=0, by="Anna")
    numbers = iter(range(1000))

    def latest():
        number = next(numbers)
        return frame_of(part(number // 3), number)  # each part is seen three times

    camera.latest = latest
    desk.work("conveyor").collect("interval", 0.001)
    found = wait_for(lambda: (now := desk.draft("conveyor"))["mode"] == "off" and now, "enough parts")
    assert len(found["images"]) == 20 and found["alike"] > 15 and found["problem"] is None
    with pytest.raises(DraftError, match="has the 20 parts"):
        desk.work("conveyor").collect("interval", 1.0)
    for name in found["images"][:5]:
        desk.move_image("conveyor", name, "remove", "Anna")
    with pytest.raises(EdgeadError, match="at least 20 are needed"):
        desk.learn("conveyor")
    camera.state, camera.reason = "lost", "no route to host"
    with pytest.raises(DraftError, match="is lost: no route to host"):
        desk.work("conveyor").collect("interval", 1.0)
    with pytest.raises(DraftError, match="learn first"):
        desk.go("conveyor", "second", "front", "Anna")


def test_what_triggers_choose_is_collected(tmp_path):
    daemon = FakeDaemon(tmp_path)
    desk = daemon.commissioning
    desk.begin("conveyor", "Anna")
    daemon.judge(0, 0.1)
    desk.work("conveyor").collect("trigger", None)
    wait_for(lambda: daemon.collectors, "it listens")
    daemon.judge(1, 0.1)
    assert wait_for(lambda: desk.draft("conveyor")["images"], "the part") == ["000001.png"]
    desk.work("conveyor").collect("off", None)
    daemon.judge(2, 0.1)
    assert desk.draft("conveyor")["mode"] == "off" and len(desk.draft("conveyor")["images"]) == 1


def test_what_was_left_out_is_put_back_unless_another_one_shows_the_same(draft):
    names = [draft.add(part(number))[0] for number in range(3)]
    for name in (names[0], names[2]):
        draft.remove(name)
    assert draft.images == [names[1]] and draft.left_out == [names[0], names[2]]
    again = Draft.open(draft.folder, draft.bounds)
    assert (again.images, again.left_out, again.mib) == (draft.images, draft.left_out, draft.mib)
    again.restore(names[2])
    assert again.images == names[1:] and again.left_out == [names[0]]
    assert again.add(part(2)) == (None, names[2])
    same = again.add(part(0))[0]
    with pytest.raises(DraftError, match=f"{names[0]} shows the same as {same}"):
        again.restore(names[0])
    with pytest.raises(DraftError, match="it is in the draft, or its room was needed"):
        again.restore(same)
    np.testing.assert_array_equal(load_image(again.path(names[0])), part(0))


def test_no_more_are_put_back_than_there_may_be(draft):
    draft.remove(draft.add(part(0))[0])
    for number in range(1, 6):
        draft.add(part(number))
    with pytest.raises(DraftError, match="as many as it may"):
        draft.restore(draft.left_out[0])


def test_what_was_left_out_makes_room(draft):
    names = [draft.add(part(number))[0] for number in range(3)]
    draft.remove(names[0])
    draft.remove(names[2])
    draft.bounds = Bounds(images=5, mib=draft.mib, free_mib=0)
    draft.add(part(3))
    assert draft.left_out == [names[2]] and len(draft.images) == 2
    assert Draft.open(draft.folder, draft.bounds).mib == draft.mib <= draft.bounds.mib


def test_files_that_were_sent_are_known_as_long_as_their_image_is_there(draft, monkeypatch):
    draft.add(part(0), "a" * 64)
    assert draft.add(part(0), "b" * 64) == (None, "000001.png")  # another file that shows the same
    monkeypatch.setattr(drafts, "write_image", lambda *given, **settings: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(DraftError, match="full"):
        draft.add(part(1), "c" * 64)
    monkeypatch.undo()
    assert draft.sent == {"a" * 64: "000001.png", "b" * 64: "000001.png"} == Draft.open(draft.folder).sent
    draft.remove("000001.png")
    assert set(draft.sent.values()) == {"000001.png"}  # who left it out does not want it again
    monkeypatch.setattr(drafts, "MAX_SENT", 2)
    draft.add(part(2), "d" * 64)
    assert list(draft.sent) == ["b" * 64, "d" * 64]


def test_sent_images_of_another_size_than_most_are_named(draft):
    assert draft.other_sizes == []
    for number, size in enumerate([(20, 20), (24, 32), (24, 32), (32, 24)]):
        draft.add(part(number, size), str(number) * 64)
    assert draft.other_sizes == Draft.open(draft.folder).other_sizes == ["000001.png", "000004.png"]
    draft.remove("000001.png")
    assert draft.other_sizes == ["000004.png"]


def test_images_of_one_part_make_no_second_part_for_the_limit(tmp_path):
    """Named as the images of the set `kolektor`, which differ in size by some pixels each."""
    draft = Draft.begin(tmp_path / "draft", "conveyor", "Anna")
    for number in range(24):
        draft.add(part(number, (20 + number, 32)), str(number) * 64, f"kos{number // 4}_Part{number % 4}.png")
    assert draft.other_sizes == []
    assert (len(draft.images), draft.parts) == (24, 6)
    by_part, by_image = drafts.rates_of(60, 9), drafts.rates_of(60, 60)
    assert (by_part["rate"], by_image["rate"]) == (0.2, 0.05)
    draft.add(part(40, (20, 32)), "x" * 64)  # without a name, parts cannot be counted by names
    assert draft.parts == len(draft.images) == 25


def test_a_camera_of_another_size_refuses_what_is_sent(tmp_path):
    daemon = FakeDaemon(tmp_path)
    desk = daemon.commissioning
    desk.begin("conveyor", "Anna")
    desk.begin_sending("conveyor", "good", 1, "Anna")
    daemon.cameras["conveyor"].frame = frame_of(part(0), 1)
    sent = cv2.imencode(".png", part(1, (20, 40)))[1].tobytes()
    with pytest.raises(ImageError, match="it has 40x20 pixels, camera conveyor gives 32x24"):
        desk.send("conveyor", sent)
    daemon.cameras["conveyor"].state = "lost"  # what it gave last may be of before
    assert desk.send("conveyor", sent)["images"] == 1


def test_an_image_that_comes_at_the_end_is_to_be_sent_again(tmp_path):
    desk = FakeDaemon(tmp_path).commissioning
    desk.begin("conveyor", "Anna")
    desk.begin_sending("conveyor", "good", 1, "Anna")
    desk.close()
    with pytest.raises(NotNowError, match="the daemon ends"):
        desk.send("conveyor", cv2.imencode(".png", part(0))[1].tobytes())
