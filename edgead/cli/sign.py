"""Verbs `key`, `sign` and `verify-signature`: keys, signatures of models, and who has signed one."""

from __future__ import annotations

import getpass
import os
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgead.artifact.folder import Artifact
from edgead.cli.app import Json, Model, app, print_report
from edgead.cli.console import facts_table, stderr
from edgead.errors import SettingsError

if TYPE_CHECKING:
    from edgead.artifact.signatures.signature import Signature

_PASSPHRASE = "EDGEAD_KEY_PASSPHRASE"


class KeyWork(str, Enum):
    """What is done with a key."""

    new = "new"
    show = "show"


@app.command()
def key(
    work: Annotated[KeyWork, typer.Argument(help="new makes one, show reports the id of a public one.")],
    public: Annotated[Path | None, typer.Argument(help="Of show: the public key.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Of new: the private key; the public one lies beside it.")
    ] = None,
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help="Of new: ask for a passphrase, or take it from the environment.")
    ] = False,
    json: Json = False,
) -> None:
    """Make an Ed25519 key that models are signed with, or say which one a file holds."""
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
    key: Annotated[Path, typer.Option(help="The private key, as `edgead key new` makes it.")],
    by: Annotated[str | None, typer.Option(help="Who signs, for those who ask; by default the user's name.")] = None,
    product: Annotated[
        str, typer.Option(help="What it judges. A device that follows a tag takes no model of another product.")
    ] = "",
    counter: Annotated[
        int | None,
        typer.Option(help="Rises with each release: such a device takes none with a lower one. By default the time."),
    ] = None,
    json: Json = False,
) -> None:
    """Sign a model as it is now; whatever changes it later takes the signature's worth."""
    from edgead.artifact.signatures.keys import read_private_key
    from edgead.artifact.signatures.sign import sign as sign_model

    private = read_private_key(key, lambda: _ask(key))
    name = getpass.getuser() if by is None else by
    signature = sign_model(model, private, by=name, product=product, counter=counter)
    report = {"model": str(model), **signature.model_dump()}
    print_report(report, json, lambda: facts_table(str(model), report))


@app.command(name="verify-signature")
def verify_signature(
    model: Model,
    key: Annotated[list[Path], typer.Option(help="A public key that is trusted; may be named several times.")],
    json: Json = False,
) -> None:
    """Check that a model is as one of some keys signed it, every file of it; exit 1 when it is not."""
    from edgead.artifact.signatures.keys import read_public_key
    from edgead.artifact.signatures.trust import UntrustedModelError, check_signed

    keys = [read_public_key(file) for file in key]
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
    """Take the passphrase of a key from the environment, or from whoever sits there."""
    given = os.environ.get(_PASSPHRASE)
    if given is None and not sys.stdin.isatty():
        raise SettingsError(f"{file}: its passphrase is asked for at a terminal, or taken from {_PASSPHRASE}")
    found = getpass.getpass(f"Passphrase of {file}: ") if given is None else given
    if given is None and twice and getpass.getpass("Again: ") != found:
        raise SettingsError("the two passphrases differ")
    if not found:
        raise SettingsError("an empty passphrase keeps nobody out: leave --passphrase out, or give one")
    return found
