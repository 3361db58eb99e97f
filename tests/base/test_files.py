"""Files are replaced whole, and what is no regular file is written into."""

from __future__ import annotations

import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgead.files.atomic import write_whole


def test_a_link_stays_a_link_to_what_is_written(tmp_path):
    file, link, dangling = tmp_path / "file", tmp_path / "link", tmp_path / "dangling"
    file.write_bytes(b"old")
    link.symlink_to(file)
    dangling.symlink_to(tmp_path / "new")
    for path in (link, dangling):
        write_whole(path, b"content")
        assert path.is_symlink() and path.read_bytes() == b"content"
    assert file.read_bytes() == b"content" and (tmp_path / "new").read_bytes() == b"content"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="FIFOS ARE NOT TESTED: this system has none")
@pytest.mark.parametrize("through_link", [False, True])
def test_a_fifo_is_written_into_and_stays(tmp_path, through_link):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    path = tmp_path / "link" if through_link else fifo
    if through_link:
        path.symlink_to(fifo)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(fifo.read_bytes()), daemon=True)
    reader.start()
    write_whole(path, b"content")
    reader.join(timeout=30)
    assert found == [b"content"] and stat.S_ISFIFO(fifo.stat().st_mode)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_a_file_keeps_its_permissions_and_a_new_one_has_the_usual_ones(tmp_path):
    private, new, usual = tmp_path / "private", tmp_path / "new", tmp_path / "usual"
    private.write_bytes(b"old")
    private.chmod(0o600)
    usual.write_bytes(b"")
    for path in (private, new):
        write_whole(path, b"content")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert new.stat().st_mode == usual.stat().st_mode


@pytest.mark.parametrize("name", ["n" * 250, "ü" * 125], ids=["ascii", "two bytes each"])
def test_a_name_may_be_as_long_as_the_system_takes(tmp_path, name):
    write_whole(tmp_path / name, b"content")
    assert (tmp_path / name).read_bytes() == b"content" and len(list(tmp_path.iterdir())) == 1


def test_no_link_is_followed_that_lies_where_the_draft_would(tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    (tmp_path / ".file.part").symlink_to(victim)
    write_whole(tmp_path / "file", b"content")
    assert victim.read_bytes() == b"mine" and (tmp_path / "file").read_bytes() == b"content"


def test_several_threads_write_one_file(tmp_path):
    path = Path(tmp_path / "file")
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda number: write_whole(path, bytes([number]) * 10_000, durable=False), range(60)))
    content = path.read_bytes()
    assert content == content[:1] * 10_000 and list(tmp_path.iterdir()) == [path]
