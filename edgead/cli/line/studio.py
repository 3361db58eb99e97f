"""Verb `studio`: the daemon's page on this computer, with images of good parts from a folder."""

from __future__ import annotations

import os
import re
import shlex
import socket
import threading
import webbrowser
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from edgead.cli.app import app
from edgead.cli.console import stdout
from edgead.cli.line.daemon import import_daemon, run_daemon
from edgead.errors import SettingsError

if TYPE_CHECKING:
    from edgead.line.site.http import HttpSection

FILE = "site.yaml"
# The pipeline waits for images and for its first model: one that the page commissions judges from then on.
_SITE = """\
# Written by `edgead studio`: no camera, images come by the page. `edgead daemon -c FILE` runs the same.

cameras:
  parts:
    uri: "request:"

pipelines:
  parts:
    camera: parts
    model: models/parts
    commissioned: true
    alarms: {{rejects_in_a_row: null}}   # bad parts on purpose, a folder of them, are no alarm here
    drift: null   # for the same reason: a few of them are no change of the line

store:
  folder: store

http:
  host: 127.0.0.1
  port: {port}
"""
# The port in a site file, as `_SITE` has it: a number below `http:` at the margin.
_PORT = re.compile(r"^(http:.*\n(?:(?:[ #].*)?\n)*? +port: *)\d+", re.MULTILINE)
_PORTS = range(8080, 8100)
_POLL_S = 0.1
_RUNS = "its page is open already; end that one first, or name another folder"


@app.command()
def studio(
    folder: Annotated[Path, typer.Argument(help="Folder for the models and all else; not of the images.")] = Path(
        "edgead-studio"
    ),
    port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            help="Port of the page; by default that of the folder's site file: for a new one 8080, or the next free "
            "one. The file keeps it.",
        ),
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address, and open no browser.")] = False,
) -> None:
    """Open the page on this computer: drop a folder of good images onto it, learn a model, and put it into service.

    Only this computer can open the page. Ctrl-C ends it; the same command continues later.
    """
    import_daemon()
    from edgead.files.folder_lock import FolderLock
    from edgead.line.evidence.settings import FOLDER_MODE
    from edgead.line.site.load import load_site

    site = _site_in(folder, port)
    # Before anything is written: the file and the log may be those of one that runs.
    with closing(FolderLock(folder, _RUNS)):
        found = load_site(site)
        FolderLock(
            found.store.folder, _RUNS, mode=FOLDER_MODE
        ).close()  # by `edgead daemon`, which holds this one alone
        section = _page_at(found.http, site, port)
        browser = not no_browser and any(name in os.environ for name in ("DISPLAY", "WAYLAND_DISPLAY"))
        ended = threading.Event()
        threading.Thread(target=_announce, args=(section.port, folder, browser, ended), daemon=True).start()
        try:
            with _log_in(folder) as log:
                run_daemon(site, log)
        finally:
            ended.set()


def _page_at(section: HttpSection | None, site: Path, port: int | None) -> HttpSection:
    """Return the page's section with the requested port, and write that port into the site file.

    Raises SettingsError: the site has no page, the address is taken, or the file cannot be written.
    """
    from edgead.line.site.address import listen

    if section is None:
        raise SettingsError(f"{site} has `http: null`, which is no page: take that line out")
    moved = section.model_copy(update={"port": port or section.port})
    try:
        listen(moved).close()  # a browser must not open another program's page
    except SettingsError as error:
        raise SettingsError(
            f"{error}, or run `edgead studio {shlex.quote(str(site.parent))} --port {_free_port()}`"
        ) from None
    if moved.port != section.port:
        _move(site, moved.port)
    return moved


def _log_in(folder: Path) -> TextIO:
    """Open the log of this run, and keep the log of the previous run beside it.

    Raises SettingsError: the log cannot be written.
    """
    log = folder / "studio.log"
    try:
        if log.exists():
            log.replace(folder / "studio.before.log")
        return log.open("a", encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"{log} cannot be written: {error.strerror}") from error


def _site_in(folder: Path, port: int | None) -> Path:
    """Return the site file in a folder; if it does not exist, make it, by default with a free port.

    Raises SettingsError: the folder holds other files, or cannot be written.
    """
    from edgead.files.atomic import write_whole

    site = folder / FILE
    if site.is_file():
        return site
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SettingsError(
            f"{folder} holds other files, and no {FILE}: name a new folder for the models; images are dropped onto the "
            "page"
        )
    write_whole(site, _SITE.format(port=port or _free_port()).encode())
    return site


def _move(site: Path, port: int) -> None:
    """Write another port of the page into a site file, and change nothing else in it.

    Raises SettingsError: the file has no line with the port as `edgead studio` writes it, or cannot be written.
    """
    from edgead.files.atomic import write_whole

    text, found = _PORT.subn(rf"\g<1>{port}", site.read_text("utf-8"), count=1)
    if not found:
        raise SettingsError(f"{site} has no line `port:` with a number below `http:`: write `port: {port}` there")
    write_whole(site, text.encode())


def _free_port() -> int:
    from edgead.line.site.address import listen
    from edgead.line.site.http import HttpSection

    for port in _PORTS:
        try:
            listen(HttpSection(port=port)).close()
        except SettingsError:
            continue
        return port
    raise SettingsError(f"the ports {_PORTS[0]} to {_PORTS[-1]} are all taken: choose another one by --port")


def _announce(port: int, folder: Path, browser: bool, ended: threading.Event) -> None:
    """Wait until the page answers, then print its address and open the browser."""
    url = f"http://127.0.0.1:{port}/#commission"
    while not ended.wait(_POLL_S):
        try:
            socket.create_connection(("127.0.0.1", port), _POLL_S).close()
        except OSError:
            continue
        stdout.print(f"{url} is the page; Ctrl-C ends it. Models lie in {folder / 'models'}.", soft_wrap=True)
        if browser:
            webbrowser.open(url)
        return
