"""The verb `daemon`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgead.cli.app import app
from edgead.errors import SettingsError


@app.command()
def daemon(
    config: Annotated[Path | None, typer.Option("--config", "-c", help="The site file.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Print the site with all defaults, and do nothing.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of site files.")] = False,
) -> None:
    """Inspect unattended: cameras, models, sinks, evidence and a page, as a site file says."""
    from edgead.config import Site, load_site, resolved
    from edgead.console import print_json

    if schema:
        print_json(Site.model_json_schema())
        return
    if config is None:
        raise SettingsError("the site file is missing: edgead daemon -c site.yaml")
    if check:
        print(resolved(load_site(config)), end="")
        return
    try:
        from edgead.daemon.run import Daemon
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("edgead"):
            raise
        raise SettingsError(f"the daemon needs {error.name}: pip install 'edgead[daemon]'") from None
    from edgead.daemon.logs import log_json_lines

    Daemon(config, log=log_json_lines()).run()
