"""Verbs `key`, `sign` and `verify-signature`: make keys, sign models, and check signatures."""

from __future__ import annotations

import getpass
import os
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgead.cli.app import Json, Model, app, print_report
from edgead.cli.console import facts_table, stderr
from edgead.errors import SettingsError

if TYPE_CHECKING:
    from edgead.artifact.signatures.signature import Signature

_PASSPHRASE = "EDGEAD_KEY_PASSPHRASE"


class KeyWork(str, Enum):
    """Work on a key."""

    new = "new"
    show = "show"


@app.command()
def key(
    work: Annotated[KeyWork, typer.Argument(help="new makes a pair of keys, show prints the id of a public key.")],
    public: Annotated[Path | None, typer.Argument(help="For show: file of the public key.")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="For new: file for the private key; the public key is written beside it."),
    ] = None,
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help="For new: ask for a passphrase, or take it from EDGEAD_KEY_PASSPHRASE.")
    ] = False,
    json: Json = False,
) -> None:
    """Make a pair of Ed25519 keys to sign models with, or show the id of a public key."""
    from edgead.artifact.signatures.keys import make_key, read_public_key

    if work is KeyWork.show:
        if public is None or output is not None:
            raise SettingsError("name the public key alone: edgead key show site.pub")
        found = read_public_key(public)
        report = {"key": found.id, "public": str(public)}
    else:
        if output is None or public is not None:
            raise SettingsError("--output is missing: edgead key new -o site.key")
        found = make_key(output, _ask(output, twice=True) if passphrase else None)
        report = {"key": found.id, "private": str(output), "public": str(found.file)}
    print_report(report, json, lambda: facts_table("Ed25519 key", report))


@app.command()
def sign(
    model: Model,
    key: Annotated[Path, typer.Option(help="File of the private key, as `edgead key new` makes it.")],
    by: Annotated[
        str | None, typer.Option(help="Name of the signer, stored in the signature; by default the user's name.")
    ] = None,
    product: Annotated[
        str,
        typer.Option(
            help="Product that the model judges. A device that follows a tag refuses a model of another product."
        ),
    ] = "",
    counter: Annotated[
        int | None,
        typer.Option(
            help="Number that must rise with each release: a device that follows a tag refuses a lower number. By "
            "default the time in seconds."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Sign a model as it is now; any later change of the model invalidates the signature."""
    from edgead.artifact.signatures.keys import read_private_key
    from edgead.artifact.signatures.signature import sign as sign_model

    private = read_private_key(key, lambda: _ask(key))
    name = getpass.getuser() if by is None else by
    signature = sign_model(model, private, by=name, product=product, counter=counter)
    report = {"model": str(model), **signature.model_dump()}
    print_report(report, json, lambda: facts_table(str(model), report))


@app.command(name="verify-signature")
def verify_signature(
    model: Model,
    key: Annotated[list[Path], typer.Option(help="File of a trusted public key; may be repeated.")],
    json: Json = False,
) -> None:
    """Check that one of the keys signed a model and that no file of it has changed since; exit 1 if the check fails."""
    from edgead.artifact.signatures.keys import read_public_key
    from edgead.artifact.signatures.trust import UntrustedModelError, check_signed

    keys = [read_public_key(file) for file in key]
    from edgead.artifact.folder import Artifact

    artifact = Artifact.load(model)
    try:
        held = check_signed(artifact, keys)
    except UntrustedModelError as error:
        stderr.print(f"not trusted: {error}", style="red", soft_wrap=True)
        raise typer.Exit(1) from None
    report = {
        "model": str(model),
        "manifest_sha256": artifact.manifest.manifest_sha256,
        "signatures": [each.model_dump(include={"key", "by", "at", "product", "counter"}) for each in held],
    }
    facts = {f"signed by {each.by or 'somebody'}": _facts(each) for each in held}
    print_report(report, json, lambda: facts_table(str(model), facts))


def _facts(signature: Signature) -> str:
    product = f"product {signature.product}, " if signature.product else ""
    return f"{signature.at}, {product}counter {signature.counter}, key {signature.key}"


def _ask(file: Path, *, twice: bool = False) -> str:
    """Take the passphrase of a key from the environment, or ask for it at the terminal."""
    given = os.environ.get(_PASSPHRASE)
    if given is None and not sys.stdin.isatty():
        raise SettingsError(f"{file}: its passphrase is asked for at a terminal, or taken from {_PASSPHRASE}")
    found = getpass.getpass(f"Passphrase of {file}: ") if given is None else given
    if given is None and twice and getpass.getpass("Again: ") != found:
        raise SettingsError("the two passphrases differ")
    if not found:
        raise SettingsError("an empty passphrase keeps nobody out: leave --passphrase out, or give one")
    return found
