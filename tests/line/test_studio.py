"""The studio: a site of its own, for this computer alone; and the models of pipelines that are commissioned."""

from __future__ import annotations

import os
import re
import socket
import time
import webbrowser
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from command_line import run_here
from patience import wait_for

from edgead.cli.line import studio
from edgead.files.folder_lock import FolderLock
from edgead.line.daemon.kept_models import KeptModels
from edgead.line.site.check import find_missing
from edgead.line.site.load import load_site, read_site


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """Run `edgead studio` in an empty folder without its daemon; gives what would be run, and what was opened."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DISPLAY", ":0")
    ran: list[Path] = []
    seen: list[str] = []
    monkeypatch.setattr(webbrowser, "open", seen.append)

    def run_daemon(config, log):
        ran.append(config)
        with socket.create_server(("127.0.0.1", load_site(config).http.port)):
            wait_for(lambda: seen, "the browser")

    monkeypatch.setattr(studio, "run_daemon", run_daemon)
    return ran, seen


def test_it_makes_a_site_without_a_camera_for_this_computer_alone(opened):
    ran, seen = opened
    ended = run_here("studio")
    assert ended.returncode == 0, ended.stderr
    site, file = read_site(ran[0])
    assert seen == [f"http://127.0.0.1:{site.http.port}/#commission"] and seen[0] in ended.stdout
    assert site.http.host == "127.0.0.1" and site.cameras["parts"].uri == "request:"
    parts = site.pipelines["parts"]
    assert parts.alarms.rejects_in_a_row is None and parts.drift is None  # folders of bad parts are judged here
    assert list(find_missing(site, file)) == []  # a model that is commissioned may come later
    Path("edgead-studio/site.yaml").write_text(ran[0].read_text() + "# mine\n")
    seen.clear()
    run_here("studio")
    assert "# mine" in ran[1].read_text()


def test_it_takes_a_port_that_is_free(opened, monkeypatch):
    ran, _ = opened
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(studio, "_PORTS", range(port, port + 3))
        assert run_here("studio").returncode == 0
        assert load_site(ran[0]).http.port in (port + 1, port + 2)
        content = yaml.safe_load(ran[0].read_text())
        ran[0].write_text(yaml.safe_dump(content | {"http": {"port": port}}))
        ended = run_here("studio")
    assert ended.returncode == 2 and f"127.0.0.1:{port} cannot be listened on" in ended.stderr and len(ran) == 1
    said = " ".join(ended.stderr.split())
    assert re.search(rf"or run `edgead studio edgead-studio --port ({port + 1}|{port + 2})`$", said)


def test_a_port_that_is_asked_for_is_kept_in_the_site_file(opened):
    ran, seen = opened
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        first, second = one.getsockname()[1], other.getsockname()[1]
    assert run_here("studio", "my caps", "--port", str(first)).returncode == 0
    file = Path("my caps/site.yaml")
    file.write_text("# mine\n" + file.read_text().replace("\nhttp:\n", "\nhttp:  # here\n  # alone\n\n"))
    text = file.read_text()
    with socket.create_server(("127.0.0.1", first)):
        ended = run_here("studio", "my caps")
        seen.clear()
        assert ended.returncode == 2 and "edgead studio 'my caps' --port " in " ".join(ended.stderr.split())
        assert run_here("studio", "my caps", "--port", str(second)).returncode == 0
    assert seen == [f"http://127.0.0.1:{second}/#commission"] and load_site(ran[-1]).http.port == second
    assert file.read_text() == text.replace(f"port: {first}", f"port: {second}")
    with socket.create_server(("127.0.0.1", first)):
        assert run_here("studio", "my caps", "--port", str(first)).returncode == 2
    assert load_site(file).http.port == second  # one that is taken is not written
    file.write_text(file.read_text().replace(f"port: {second}", f'port: "{second}"'))
    ended = run_here("studio", "my caps", "--port", str(first))
    assert ended.returncode == 2 and f"write `port: {first}` there" in " ".join(ended.stderr.split())
    assert run_here("studio", "--port", "0").returncode == 2


@pytest.mark.parametrize("held", ["caps", "caps/store"])
def test_a_second_one_in_the_same_folder_leaves_the_first_as_it_is(opened, held):
    """Whether `edgead studio` or `edgead daemon` holds it."""
    ran, _ = opened
    assert run_here("studio", "caps").returncode == 0
    site, log = Path("caps/site.yaml"), Path("caps/studio.log")
    log.write_text("what has happened\n")
    text = site.read_text()
    with closing(FolderLock(Path(held), "")), socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        for arguments in ((), ("--port", port)):
            ended = run_here("studio", "caps", *arguments)
            said = " ".join(ended.stderr.split())
            assert ended.returncode == 2 and f"is held by process {os.getpid()}" in said, said
            assert "its page is open already; end that one first" in said
    assert site.read_text() == text and log.read_text() == "what has happened\n" and len(ran) == 1


def test_the_log_of_the_run_before_stays_beside_the_new_one(opened, monkeypatch):
    _, seen = opened
    for text in ("first", "second", "third"):
        seen.clear()
        started = studio.run_daemon

        def run_daemon(config, log, text=text, started=started):
            log.write(text)
            started(config, log)

        with monkeypatch.context() as patched:
            patched.setattr(studio, "run_daemon", run_daemon)
            assert run_here("studio", "caps").returncode == 0
    logs = {path.name: path.read_text() for path in Path("caps").glob("*.log")}
    assert logs == {"studio.log": "third", "studio.before.log": "second"}


@pytest.mark.parametrize("display", [True, False])
def test_no_browser_is_opened_where_none_is_wanted_or_can_be_seen(opened, monkeypatch, display):
    ran, seen = opened
    printed: list[str] = []
    monkeypatch.setattr(studio.stdout, "print", lambda text, **_: printed.append(text))

    def run_daemon(config, log):
        ran.append(config)
        time.sleep(0.3)
        assert printed == []  # an address that nothing answers is of no use
        with socket.create_server(("127.0.0.1", load_site(config).http.port)):
            wait_for(lambda: printed, "the address")

    monkeypatch.setattr(studio, "run_daemon", run_daemon)
    if not display:
        monkeypatch.delenv("DISPLAY")
        monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert run_here("studio", "caps", *["--no-browser"][: int(display)]).returncode == 0
    assert ran == [Path("caps/site.yaml")] and seen == []


def test_a_folder_of_images_is_not_taken_for_the_studio(opened, tmp_path):
    ran, _ = opened
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "a.png").write_bytes(b"")
    ended = run_here("studio", "good")
    assert ended.returncode == 2 and "images are dropped onto the page" in ended.stderr and not ran
    assert [path.name for path in (tmp_path / "good").iterdir()] == ["a.png"]


def test_a_kept_model_counts_until_the_site_file_names_another(tmp_path, caplog):
    file, site = tmp_path / "models.json", tmp_path / "models" / "first"
    kept = KeptModels(file)
    assert kept.find("a", site) is None
    kept.keep("a", site, tmp_path / "second")
    kept.keep("b", site, tmp_path / "third")
    again = KeptModels(file)
    assert (again.find("a", site), again.find("b", site)) == (tmp_path / "second", tmp_path / "third")
    assert again.find("a", tmp_path / "models" / "other") is None and again.find("c", site) is None
    file.write_text("{")
    assert again.find("a", site) is None and "cannot be read" in caplog.text
