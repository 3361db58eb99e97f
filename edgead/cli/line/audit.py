"""Verb `audit`: checks and exports the audit of an evidence store."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from edgead.cli.app import Json, StoreUrl, app
from edgead.cli.console import print_json, stderr
from edgead.errors import SettingsError

_HASH = re.compile(r"[0-9a-f]{64}")


AuditWork = Literal["verify", "export"]


@app.command()
def audit(
    work: Annotated[AuditWork, typer.Argument(help="verify the audit's hash chain, or export all rows.")],
    store: Annotated[Path, typer.Argument(help="Folder of an evidence store; or an exported .jsonl file to verify.")],
    store_url: StoreUrl = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="For export: the file to write, as JSON lines, or as a table if its name ends in .csv.",
        ),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(
            help="For verify: hash of the last row at an earlier time, kept elsewhere; the audit must still contain "
            "this hash."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Check that no row of the audit was changed or removed, or export all rows; exit 1 when the chain is broken."""
    from edgead.line.evidence import chain
    from edgead.line.evidence.audit import export_audit, read_exported
    from edgead.line.evidence.records import opened_store

    _check_options(work, output, head)
    if work == "verify" and store.is_file():
        found = chain.check(read_exported(store), head)
    else:
        with opened_store(store, store_url) as access, access.reading() as connection:
            last = chain.last_numbered(connection)
            rows = list(chain.rows_of(connection))  # the checked rows are the exported ones
        found = chain.check(rows, head, last)
        if output is not None:
            export_audit(rows, output)
    report: dict[str, Any] = {
        "whole": found.problem is None,
        "rows": found.rows,
        "seq": found.head.seq,
        "head": found.head.hash,
        "problem": found.problem,
        **({} if output is None else {"file": str(output)}),
    }
    if json:
        print_json(report)
    elif found.problem is None:
        print(f"whole: {found.rows} rows\nhead: {found.head.hash}")
    if found.problem is not None:
        stderr.print(f"broken: {found.problem}; {found.rows} rows before that are whole", style="red", soft_wrap=True)
        raise typer.Exit(1)


def _check_options(work: AuditWork, output: Path | None, head: str | None) -> None:
    if work == "export" and output is None:
        raise SettingsError("--output is missing: name the file to export to, such as -o audit.jsonl")
    if work == "verify" and output is not None:
        raise SettingsError("--output goes with `edgead audit export`")
    if head is not None and not _HASH.fullmatch(head):
        raise SettingsError(f"--head {head!r}: expected a hash of 64 hexadecimal digits, as `edgead audit` prints it")
