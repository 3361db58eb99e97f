"""Verb `daemon`."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn, TextIO

import typer

from edgead.cli.app import app
from edgead.cli.console import stderr, warn
from edgead.errors import EdgeadError, SettingsError
from edgead.process.installation import install_command

if TYPE_CHECKING:
    from edgead.line.daemon.run import Daemon


@app.command(name="daemon")
def daemon_command(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="The site file.")] = None,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Print the site file with all defaults; report missing models and sources, a page's address that "
            "is taken, and models too slow for `budget_ms` on this computer (exit 1).",
        ),
    ] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of site files.")] = False,
    components: Annotated[
        bool, typer.Option("--components", help="Print all sources, sinks, triggers and runtimes with their options.")
    ] = False,
) -> None:
    """Inspect unattended, with the cameras, models, sinks, evidence store and page that a site file names."""
    from edgead.cli.console import print_json
    from edgead.line.site.schema import Site

    if schema:
        print_json(Site.model_json_schema())
        return
    if components:
        from edgead.line.site.reference import reference

        print(reference(), end="")
        return
    if config is None:
        raise SettingsError("the site file is missing: edgead daemon -c site.yaml")
    if check:
        _check(config)
        return
    run_daemon(config)


def run_daemon(config: Path, log: TextIO | None = None) -> NoReturn:
    """Run a site until it is stopped, and end the process with an exit code.

    `config`: the site file.
    `log`: stream for the log; by default stderr.
    Raises SettingsError: the daemon does not run on this system, or needs packages that are missing.
    """
    daemon = import_daemon()
    from edgead.line.daemon.logs import log_json_lines

    _run_and_exit(daemon(config, log=log_json_lines(log)))


def import_daemon() -> type[Daemon]:
    """Import the daemon; raise SettingsError if it does not run on this system, or packages are missing."""
    try:
        from edgead.line.daemon.run import Daemon
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("edgead"):
            raise
        if error.name == "fcntl":
            raise SettingsError(
                f"the daemon needs Linux, found {sys.platform}: run it there, or in a container"
            ) from None
        raise SettingsError(f"the daemon needs {error.name}: {install_command('daemon')}") from None
    return Daemon


def _check(config: Path) -> None:
    from edgead.line.daemon.self_test import find_late
    from edgead.line.site.check import find_missing, find_taken
    from edgead.line.site.load import read_site, resolved

    site, file = read_site(config)
    print(resolved(site), end="")
    problems = [*find_missing(site, file), *find_taken(site, file), *find_late(site, file)]
    warn(problems)
    if problems:
        raise typer.Exit(1)


def _run_and_exit(daemon: Daemon) -> NoReturn:
    code = 0
    try:
        daemon.run()
    except EdgeadError as error:
        stderr.print(f"error: {error}", style="red", soft_wrap=True)
        code = 2
    logging.shutdown()
    sys.stderr.flush()
    # Everything is closed. The interpreter's own end would tear down threads that still hang in the code of a driver or
    # of OpenCV, which aborts the process.
    os._exit(code)
