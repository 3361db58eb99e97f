"""Last words of the demo: what to look at, and what to do next, as commands that work as they are printed."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from edgead.files.atomic import write_whole
from edgead.process.installation import command_path

# The built-in line before the demo's model; the same as deploy/site.yaml of a checkout, for any folder.
_SITE = """\
# Written by `edgead demo`: the built-in line, inspected by the model in this folder. The page is on {page}.
# `edgead daemon --schema` describes all keys, `edgead daemon -c FILE --check` shows them with their defaults.

cameras:
  conveyor:
    uri: synthetic:?seed=7&count=120&defect_rate=0.1&rate=2&repeat=1

pipelines:
  line:
    camera: conveyor
    model: model
    budget_ms: 200

store:
  folder: evidence
  most_mib: 500
"""
PAGE = "http://127.0.0.1:8080"


@dataclass(frozen=True, slots=True)
class Step:
    """A command, and what it is for."""

    command: str
    purpose: str


def write_site(output: Path) -> Path:
    """Write a site file that inspects the built-in line by the demo's model; one that lies there stays as it is."""
    site = output / "site.yaml"
    if not site.exists():
        write_whole(site, _SITE.format(page=PAGE).encode())
    return site


def next_steps(output: Path, data: Path, site: Path | None) -> list[Step]:
    """What to do after the demo; `site` is None where it ran on the user's own images."""
    model = output / "model"
    report = Step(_edgead("report", model, data, "-o", output / "report.html"), "the test set as a page to print")
    if site is None:
        steps = [
            report,
            Step(
                _edgead("stream", model, "camera:0", "--sink", "images:rejects?only=reject"),
                "judges what a camera sees",
            ),
        ]
    else:
        page = f"inspects the line without end, its page is on {PAGE}; Ctrl-C ends it"
        steps = [
            Step(_edgead("daemon", "-c", site), page),
            report,
            Step(_edgead("train", "FOLDER", "-o", "MODEL"), "learns from your own good parts"),
        ]
    activate = Path(command_path("edgead")).with_name("activate")
    if activate.is_file():
        steps.append(Step(f". {shlex.quote(str(activate))}", "from then on `edgead` alone is enough in this terminal"))
    return steps


def steps_text(look_at: dict[str, str], steps: list[Step]) -> str:
    """Lay both out for a terminal; a command has a line of its own, so that it can be copied."""
    width = max(map(len, look_at))
    lines = ["Look at", *(f"  {path:<{width}}  {what}" for path, what in look_at.items()), "", "Next"]
    for step in steps:
        lines += [f"  {step.command}", f"      {step.purpose}"]
    return "\n".join(lines)


def _edgead(*words: str | Path) -> str:
    return shlex.join([command_path("edgead"), *map(str, words)])
