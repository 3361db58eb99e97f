"""Output of the command line: progress on stderr, one report on stdout, as text or JSON."""

from __future__ import annotations

import json
import math
import shlex
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from edgead.files.table import show_commands
from edgead.process.stage_bars import stage_bars as bars_on

if TYPE_CHECKING:
    from edgead.export.standalone import Standalone

    from edgead.artifact.folder import Artifact
    from edgead.types import Frame, Verdict


class _PlainConsole(Console):
    """Console that escapes terminal commands in the text that it prints."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(show_commands(text), **options)


# Last words of the names of facts, which the table shows as units behind the number.
_UNITS = {"seconds": "s", "ms": "ms", "mib": "MiB", "mm": "mm"}

stdout = _PlainConsole(highlight=False, markup=False, emoji=False)
stderr = _PlainConsole(stderr=True, highlight=False, markup=False, emoji=False)
stage_bars = partial(bars_on, stderr)
"""Open progress bars on stderr; yields progress(stage, done, total)."""
LOOK = "look at the model"

"""Last stage of making a model: the search for advice on it."""


def warn(warnings: Iterable[str]) -> None:
    """Print warnings on standard error."""
    for warning in warnings:
        stderr.print(f"warning: {warning}", style="yellow", soft_wrap=True)


def next_steps(*steps: tuple[str, str]) -> list[str]:
    """Make lines of text with the next commands and their purposes."""
    return ["Next:", *(f"  {command}   # {what}" for command, what in steps)]


def edgead_command(verb: str, *arguments: object) -> str:
    """Return a command of edgead, quoted for a shell; print it with `print`, since rich breaks long lines."""
    return shlex.join(["edgead", verb, *map(str, arguments)])


class FrameCount:
    """Counter of verdicts on one line of a terminal, with a sentence about the last reject above it.

    It prints at most once a second, since a moving display would slow down the frames.
    """

    def __init__(self, language: str) -> None:
        self._language = language
        self._decisions: Counter[str] = Counter()
        self._kinds: Counter[str] = Counter()
        self._last: tuple[Frame, Verdict] | None = None
        self._shown_s = time.monotonic()

    def __call__(self, frame: Frame, verdict: Verdict) -> None:
        self._decisions[verdict.decision] += 1
        if verdict.decision != "ok":
            self._last = frame, verdict
            self._kinds[verdict.kind or ""] += 1
        now_s = time.monotonic()
        if stderr.is_terminal and now_s - self._shown_s >= 1:
            self._shown_s = now_s
            if self._last is not None:
                stderr.print(self._words(*self._last), soft_wrap=True)
                self._last = None
            counts = ", ".join(f"{count} {decision}" for decision, count in sorted(self._decisions.items()))
            stderr.print(f"frame {frame.number}: {counts}", end="\r")

    def _words(self, frame: Frame, verdict: Verdict) -> str:
        from edgead.serialization import VerdictCounts, frame_label, sentence, verdict_record

        counts = VerdictCounts(self._decisions, self._kinds, "run")
        return f"{frame_label(frame)}: {sentence(verdict_record(frame, verdict), self._language, counts)}"


def print_json(report: dict[str, Any]) -> None:
    """Print a report as strict JSON; NaN and infinity become null."""
    print(json.dumps(_finite(report), indent=1))


def facts_table(title: str, facts: dict[str, Any]) -> Table:
    """Make a table of facts in two columns: names with spaces for underscores, numbers with their unit."""
    from edgead.serialization.facts import fact_text  # with numpy, which a refusal does not wait for

    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        words = name.split("_")
        unit = _UNITS.get(words[-1]) if len(words) > 1 and isinstance(value, (int, float)) else None
        text = f"{fact_text(value)} {unit}" if unit else fact_text(value)
        table.add_row(" ".join(words[:-1] if unit else words), text)
    return table


def rate_text(rate: dict[str, Any]) -> str:
    """Format a rate of `Evaluation.to_dict`: the share, the counts behind it and the 95 % interval."""
    return (
        f"{100 * rate['rate']:.1f} % ({rate['count']} of {rate['total']}; "
        f"95 % interval {100 * rate['low']:.1f} to {100 * rate['high']:.1f}{_in_groups(rate)})"
    )


def _in_groups(rate: dict[str, Any]) -> str:
    return f", {rate['groups']} groups" if rate["groups"] else ""


def evaluation_table(report: dict[str, Any]) -> Group:
    """Make the tables of the report of `edgead eval`: the whole test set, then each type of defect."""
    kinds = [f"{values['images']} {kind}" for kind, values in report["defect_types"].items()]
    facts: dict[str, Any] = {"found": ", ".join([f"{report['false_reject_rate']['total']} good", *kinds])}
    facts |= {"learnt": report["learnt_account"]} if report["learnt_account"] else {}
    facts["image_AUROC, AP, F1Max"] = _figures(report, "image_AUROC", "image_AP", "image_F1Max")
    masks, defects = report["defects_with_masks"], report["escape_rate"]["total"]
    if report["AUPRO"] is not None:
        facts["pixel_AUROC, AP, F1Max"] = _figures(report, "pixel_AUROC", "pixel_AP", "pixel_F1Max")
        facts["AUPRO to 0.3, to 0.05"] = _figures(report, "AUPRO", "AUPRO_0.05")
        facts["AUPIMO"] = _figures(report, "AUPIMO")
    if masks < defects:
        facts["masks"] = f"{masks} of {defects} defects have masks"
    facts["limit"] = f"rejected above a raw score of {report['threshold']:.4g}"
    facts["false_reject_rate"] = rate_text(report["false_reject_rate"])
    if report["review_rate_good"]["count"]:
        facts["good sent to review"] = rate_text(report["review_rate_good"])
    facts["escape_rate"] = rate_text(report["escape_rate"])
    if report["groups"] < report["images"]:
        facts["groups"] = report["groups_account"]
    types = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    names = ["image_AUROC", "image_AP", "image_F1Max", *(["AUPRO", "AUPIMO"] if report["AUPRO"] is not None else [])]
    for column in ("type", *(name.removeprefix("image_") for name in names), "escapes, 95 %"):
        types.add_column(column, overflow="fold")
    for kind, values in report["defect_types"].items():
        rate = values["escape_rate"]
        escapes = f"{rate['count']} of {rate['total']} ({100 * rate['low']:.0f} to {100 * rate['high']:.0f} %)"
        types.add_row(kind, *(_figures(values, name) for name in names), escapes)
    parts = [facts_table(f"{report['images']} test images", facts), types]
    if "volumes" in report:
        parts.append(_volume_facts(report["volumes"]))
    return Group(*parts)


def _volume_facts(found: dict[str, Any]) -> Table:
    facts = {"AUROC": _figures(found, "AUROC")}
    if found["threshold"] is None:
        facts["limit"] = "none: the model was calibrated with too few volumes, or with images"
    else:
        facts["limit"] = f"rejected above {found['threshold']:.4g}, the highest mean of 3 neighbouring slices"
        facts["false_reject_rate"] = rate_text(found["false_reject_rate"])
        facts["escape_rate"] = rate_text(found["escape_rate"])
    passed = [one for one in found["verdicts"] if one["defective"] and one["decision"] == "ok"]
    rejected = [one for one in found["verdicts"] if not one["defective"] and one["decision"] == "reject"]
    for what, ones in (("passed", passed), ("rejected, but good", rejected)):
        if ones:
            facts[what] = ", ".join(f"{one['kind']}/{one['worst']} ({one['score']:.4g})" for one in ones[:8])
    return facts_table(f"{found['volumes']} volumes", facts)


def _figures(report: dict[str, Any], *names: str) -> str:
    return ", ".join("" if report[name] is None else f"{report[name]:.4f}" for name in names)


def training_facts(artifact: Artifact) -> dict[str, Any]:
    """Collect the facts that `edgead train` reports of a new model."""
    manifest, calibration = artifact.manifest, artifact.graph().calibration
    assert calibration is not None
    facts = {key: value for key, value in manifest.training.items() if key not in ("settings", "data")}
    if calibration.method == "none":
        return {**facts, "thresholds": "none yet: every image is for review"}
    return {
        **facts,
        "precision": manifest.precision,
        "false_reject_rate": calibration.false_reject_rate,
        "threshold": calibration.reject,
        "review_threshold": calibration.review,
        **({} if calibration.volumes is None else {"volume_threshold": calibration.volumes.reject}),
    }


def export_facts(artifact: Artifact, precision: str) -> dict[str, Any]:
    """Collect the facts that `edgead export` reports of a graph."""
    facts: dict[str, Any] = {
        "model": str(artifact.path),
        "precision": precision,
        "onnx_mib": artifact.graph(precision).path.stat().st_size / 2**20,
    }
    record = artifact.manifest.graphs[precision]
    if not record.method or record.calibration is None:
        return facts
    method = {key: value for key, value in record.method.items() if key != "differences"}
    return {**facts, **method, **record.method["differences"], "threshold": record.calibration.reject}


def standalone_facts(written: Standalone) -> dict[str, Any]:
    """Collect the facts that `edgead export --standalone` shows of its file."""
    width, height = written.size
    cut = "" if written.tiles == 1 else f", which it cuts into {written.tiles} tiles"
    return {
        "size": f"{written.bytes / 2**20:.1f} MiB, opset {written.opset}, {written.precision}",
        "takes": f"image: uint8 BGR ({height}, {width}, 3), as OpenCV decodes a file{cut}",
        "gives": f"anomaly_map: float32 ({written.map_size[1]}, {written.map_size[0]}); image_score: float32 (1,); "
        "decision: int32 (1,), 0 ok, 1 review, 2 reject",
        "checked": f"{written.images} golden images on {' and '.join(written.runtimes)}: decisions are edgead's, "
        f"scores within {written.score_error:.1g}, maps within {written.map_error:.1g}",
    }


def parity_table(report: dict[str, dict[str, Any]]) -> Table:
    """Make the table of the report of `edgead verify`."""
    rows = {}
    for name, parity in report.items():
        state = "passed" if parity["passed"] else "FAILED"
        rows[name.replace("_", " ")] = (
            f"{state}: {parity['images']} images, score error {parity['score_error']:.2g} "
            f"(allowed {parity['score_tolerance']:g}), map error {parity['map_error']:.2g} "
            f"(allowed {parity['map_tolerance']:g}), {parity['verdict_flips']} verdict flips"
        )
    return facts_table("parity", rows)


def pairs_table(rows: list[dict[str, Any]], against: str) -> Group:
    """Make the table of the report of `edgead verify --all`, with the faults below."""
    title = f"{against} against every runtime and precision, {rows[0]['images']} images"
    # Eleven columns must fit whole into a narrow terminal.
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for column in ("precision", "runtime"):
        table.add_column(column, no_wrap=True)
    for column in ("score\nerror", "map\nerror", "flips", "AUROC", "change", "net\nms", "frame\nms", "MiB", "state"):
        table.add_column(column, overflow="fold")
    for row in rows:
        auroc, change = "", ""
        if row["image_AUROC"] is not None:
            auroc, change = f"{row['image_AUROC']:.3f}", f"{row['AUROC_change']:+.3f}"
        table.add_row(
            row["precision"],
            row["runtime"],
            f"{row['score_error']:.0e}",
            f"{row['map_error']:.0e}",
            str(row["verdict_flips"]),
            auroc,
            change,
            f"{row['network_ms']:.3g}",
            f"{row['frame_ms']:.3g}",
            f"{row['size_mib']:.3g}",
            "passed" if row["passed"] else "FAILED",
            style=None if row["passed"] else "red",
        )
    return Group(
        table, *(f"{row['precision']} on {row['runtime']}: {'; '.join(row['faults'])}" for row in rows if row["faults"])
    )


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def exit_on_failures(rows: Sequence[Mapping[str, Any]], what: str) -> None:
    """Print the `problem` of each row that has one; exit 1 if some rows do, 2 if all."""
    failed = [row for row in rows if "problem" in row]
    for row in failed:
        stderr.print(f"{row['image']}: {row['problem']}", style="red", soft_wrap=True)
    if failed:
        stderr.print(f"error: {len(failed)} of {len(rows)} images {what}", style="red", soft_wrap=True)
        raise typer.Exit(1 if len(failed) < len(rows) else 2)
