"""Command `describe`, which asks a language model about rejects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgead.cli.app import Json, Model, app, find_images, print_report
from edgead.cli.choices import Language, Precision, Runtime
from edgead.cli.console import exit_on_failures, stage_bars, stderr

if TYPE_CHECKING:
    from rich.console import Group as Lines

    from edgead.detector import Detector
    from edgead_language.chat import Chat
    from edgead_language.opinions import DescribePlan

Endpoint = Annotated[
    str,
    typer.Option(
        help="Address of an OpenAI-compatible server, such as http://127.0.0.1:8080/v1 of llama.cpp, vLLM or Ollama; "
        "EDGEAD_CHAT_KEY holds the server's key, if it needs one."
    ),
]

EXAMPLES = (
    "edgead describe model rejects --endpoint http://localhost:8000/v1",
    "edgead describe model rejects --endpoint http://localhost:8000/v1 --part 'a cap' -o said.jsonl",
)


@app.command(epilog="\n\n".join(("Examples:", *EXAMPLES)))
def describe(
    model: Model,
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of images; subfolders are searched too.")],
    endpoint: Endpoint,
    name: Annotated[
        str | None, typer.Option("--model", help="Name of the language model; by default the only model of the server.")
    ] = None,
    question: Annotated[
        str | None, typer.Option(help="Question to ask; by default, whether there is any anomaly.")
    ] = None,
    part: Annotated[str, typer.Option(help='Name of the part in the images, such as "a metal nut".')] = "a part",
    heat_map: Annotated[bool, typer.Option(help="Send the heat map as a second image.")] = True,
    everything: Annotated[bool, typer.Option("--all", help="Ask about parts that were judged ok too.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File for the answers: JSON lines, or a table if its name ends in .csv."),
    ] = None,
    timeout_s: Annotated[
        float, typer.Option(min=0.1, max=3600, help="Longest time to wait for an answer, in seconds.")
    ] = 60.0,
    language: Language = "en",
    runtime: Runtime = "auto",
    precision: Precision = None,
    json: Json = False,
) -> None:
    """Ask a language model that sees images about rejects; the answers never change a decision."""
    from edgead.detector import Detector
    from edgead_language.opinions import DescribePlan

    plan = DescribePlan(part=part, language=language, heat_map=heat_map, everything=everything)
    plan = replace(plan, question=question) if question else plan
    paths = find_images(images)
    chat = _open_chat(endpoint, name, timeout_s)
    with Detector.load(model, runtime=runtime, precision=precision) as detector:
        _describe(detector, chat, paths, plan, output, as_json=json)


def _open_chat(endpoint: str, name: str | None, timeout_s: float) -> Chat:
    from edgead_language.chat import Chat, read_address

    address = read_address(endpoint)
    if not address.is_here:
        stderr.print(
            f"warning: images leave this machine: they are sent to {address.shown}", style="yellow", soft_wrap=True
        )
    chat = Chat(address, name, timeout_s)
    return chat if name else chat.with_model()


def _describe(
    detector: Detector, chat: Chat, paths: list[Path], plan: DescribePlan, output: Path | None, *, as_json: bool
) -> None:
    from edgead_language.opinions import describe_images, write_rows

    rows: list[dict[str, Any]] = []
    try:
        with stage_bars() as progress:
            for row in describe_images(detector, chat, paths, plan):
                rows.append(row)
                progress("describe images", len(rows), len(paths))
    finally:  # answers take long, so those before an interruption are kept
        if output is not None and rows:
            write_rows(rows, output)
    print_report({"images": rows}, as_json, lambda: _opinions(rows))
    exit_on_failures(rows, "were not described")


def _opinions(rows: list[dict[str, Any]]) -> Lines:
    from rich.console import Group as Lines
    from rich.text import Text

    lines = []
    for row in rows:
        lines.append(Text(f"{row['image']}: {row.get('facts') or row.get('decision', 'not judged')}"))
        if "model_words" in row:
            lines.append(
                Text(f"  {row['language_model'] or 'a language model'} says: {row['model_words']}", style="italic")
            )
    asked = sum("model_words" in row for row in rows)
    note = f"{asked} of {len(rows)} images described. What a language model says may be wrong; no decision rests on it."
    return Lines(*lines, Text(note))
