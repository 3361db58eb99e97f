"""Verbs `push` and `pull`: models to and from an OCI registry."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from edgead.artifact.oci.pull import pull as pull_model
from edgead.artifact.oci.push import push as push_model
from edgead.artifact.oci.reference import Reference
from edgead.cli.app import Json, Model, app, print_report
from edgead.cli.console import facts_table


@app.command()
def push(
    model: Model,
    to: Annotated[str, typer.Argument(help="oci://HOST/NAME:TAG.")],
    json: Json = False,
) -> None:
    """Put a model into a registry, under a tag that devices may follow; files already there are not sent again.

    User and password come from `docker login`, or from EDGEAD_REGISTRY_USER and EDGEAD_REGISTRY_PASSWORD for the
    registry EDGEAD_REGISTRY_HOST.
    """
    report = asdict(push_model(model, Reference.read(to)))
    print_report(report, json, lambda: facts_table(str(model), report))


@app.command()
def pull(
    source: Annotated[str, typer.Argument(metavar="FROM", help="oci://HOST/NAME:TAG, or oci://HOST/NAME@sha256:...")],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Folder of the model; a model already there is kept as an earlier version."
        ),
    ],
    json: Json = False,
) -> None:
    """Fetch a model from a registry and check every byte; files that the folder already has are not fetched again.

    An interrupted pull continues where it stopped.
    """
    pulled = asdict(pull_model(Reference.read(source), output))
    report = {"model": str(output), "from": source, **pulled}
    print_report(report, json, lambda: facts_table(str(output), report))
