"""Verb `calibrate`: changes thresholds on the device."""

from __future__ import annotations

import shlex
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import typer

from edgead.cli.app import Group, Json, Model, StoreUrl, app, find_images, print_report
from edgead.cli.choices import Precision, Runtime
from edgead.cli.consent import reason_for
from edgead.cli.console import edgead_command, facts_table, next_steps, stage_bars, stderr, warn
from edgead.errors import SettingsError

GoodImages = Annotated[
    list[Path] | None,
    typer.Argument(
        help="Good images, or folders of them, that the model was not trained on; best from another day than the "
        "training."
    ),
]
FalseRejectRate = Annotated[
    float | None, typer.Option(help="At most this share of good parts is rejected; by default the model's own.")
]
ReviewRate = Annotated[
    float | None, typer.Option(help="At most this share of good parts is rejected or sent to review.")
]
Reject = Annotated[float | None, typer.Option(help="Set the reject threshold by hand, as a raw score, without images.")]
Review = Annotated[float | None, typer.Option(help="Set the review threshold by hand, as a raw score.")]
AcceptOutliers = Annotated[
    bool,
    typer.Option(
        "--accept-outliers", help="Accept images as good even if their scores stand apart, as scores of defects do."
    ),
]
Bad = Annotated[
    list[Path] | None,
    typer.Option(
        help="Images of defective parts: thresholds are refused if they pass a part that the old thresholds stop."
    ),
]
Marked = Annotated[
    Path | None, typer.Option(help="Folder of an evidence store: add the parts that people marked as bad to --bad.")
]
Pipeline = Annotated[str | None, typer.Option(help="With --marked: the pipeline whose marked parts are used.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the new thresholds and write nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Write a limit that may be blind to defects without asking.")]
Reason = Annotated[
    str,
    typer.Option(
        help="Reason why a limit that may be blind to defects is right, such as a new lamp; the model keeps the reason."
    ),
]


@app.command()
def calibrate(
    model: Model,
    good_images: GoodImages = None,
    false_reject_rate: FalseRejectRate = None,
    review_rate: ReviewRate = None,
    group: Group = "auto",
    reject: Reject = None,
    review: Review = None,
    accept_outliers: AcceptOutliers = False,
    bad: Bad = None,
    marked: Marked = None,
    store_url: StoreUrl = None,
    pipeline: Pipeline = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    reason: Reason = "",
    runtime: Runtime = "auto",
    precision: Precision = None,
    json: Json = False,
) -> None:
    """Set a model's thresholds again, from good images or by hand; exit 1 when some images cannot be read.

    The model keeps a record of each change.
    """
    from edgead.adapt.recalibrate import MAX_RISE, AskedRates, recalibrate, thresholds_by_hand, write_thresholds
    from edgead.artifact.folder import Artifact
    from edgead.detector import Detector
    from edgead.line.evidence.kept_frames import marked_parts
    from edgead.types import scaled_score

    by_hand = reject is not None or review is not None
    from_images = bool(good_images) or false_reject_rate is not None or review_rate is not None
    if by_hand == from_images or (from_images and not good_images):
        raise SettingsError(
            "give either good images (with --false-reject-rate, --review-rate) or thresholds (--reject, --review)"
        )
    report: dict[str, Any]
    found = None
    if by_hand:
        artifact = Artifact.load(model)
        change, calibration = thresholds_by_hand(artifact, precision, reject=reject, review=review)
        report = change.model_dump(mode="json")
        rise = scaled_score(calibration.reject, calibration.typical, change.before.reject)
        if rise is not None and rise > MAX_RISE:
            said = f"the limit rises to {rise:.0f}, where 100 was the limit: defects that score in between pass"
            report["warnings"] = [f"{said}; `edgead eval {shlex.quote(str(model))} TEST_SET` counts them"]
    else:
        asked = AskedRates(false_reject_rate, review_rate, group, accept_outliers or dry_run)
        paths, defective = find_images(good_images or [], below=False), find_images(bad or [])
        if marked is not None:
            defective += marked_parts(marked, store_url, None, pipeline).bad
        with Detector.load(model, runtime=runtime, precision=precision) as detector, stage_bars() as progress:
            found = recalibrate(detector, paths, asked, bad=defective, progress=partial(progress, "score good images"))
        artifact, change, calibration = detector.artifact, found.change, found.calibration
        report = found.to_dict()
        if dry_run and found.outliers and not accept_outliers:
            report["warnings"].append("with --dry-run alone: these limits are written only with --accept-outliers")
    if not dry_run:
        reason = reason_for(change.doubts, yes=yes, reason=reason)
        write_thresholds(artifact, change, calibration, reason=reason, found=found)
        report["reason"] = reason
    others = [name for name in artifact.precisions if name != change.precision]
    if others and precision is None:
        stderr.print(
            f"These are the limits of {change.precision}; those of {', '.join(others)} stay as they were. Give "
            f"--precision {others[0]} too where a device runs that graph, as TensorRT does where int8 is the default.",
            soft_wrap=True,
        )
    warn(report.get("warnings", []))
    print_report(
        {"model": str(model), "written": not dry_run, **report}, json, lambda: facts_table(str(model), _facts(report))
    )
    if not (json or dry_run) and change.before.method != "none":
        before = {f"--{name}": limit for name, limit in change.before.values().items()}
        undo = edgead_command("calibrate", model, *chain(*before.items()), "--precision", change.precision)
        print(*next_steps((undo, "brings the limits of before back")), sep="\n")
    if report.get("unreadable_images"):
        raise typer.Exit(1)


def _facts(report: dict[str, Any]) -> dict[str, Any]:
    from edgead.artifact.manifest import PROVEN

    before, after = report["before"], report["after"]
    none_before = before["method"] == "none"

    def was(value: str) -> str:
        return "" if none_before else f" (was {value})"

    facts: dict[str, Any] = {"graph": report["precision"]}
    if report["images"]:
        facts["good images"] = report["images"]
        if report["groups"] < report["images"]:
            facts["groups"] = report["groups_account"]
        if not none_before:
            rejects = report["old_threshold_rejects"]
            facts["rejected by the old limit"] = f"{rejects['count']} of {rejects['total']}"
        if (passing := report["bad_parts"])["total"]:
            facts["bad parts that pass"] = f"{passing['count']} of {passing['total']}, none that was stopped before"
    if "volumes" in report:
        facts["volumes reject above"] = f"{report['volume_threshold']:.6g}, from {report['volumes']} volumes"
    for name in ("reject", "review"):
        facts[f"{name} above"] = f"{after[name]:.6g}{was(f'{before[name]:.6g}')}"
    for name in ("false_reject_rate", "review_rate"):
        sign = "at most " if after["method"] in PROVEN else "about "
        facts[name.replace("_", " ")] = f"{sign}{100 * after[name]:.3g} %{was(f'{100 * before[name]:.3g} %')}"
    facts["method"] = f"{after['method']}{was(before['method'])}".replace("_", " ")
    return facts
