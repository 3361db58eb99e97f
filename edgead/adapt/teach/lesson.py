"""Scores of a model before and after it was taught, graph by graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.table import Table

from edgead.adapt.teach.guard import LessonRefusedError
from edgead.artifact.manifest import Calibration
from edgead.calibration.conformal import share_above
from edgead.detector import Detector
from edgead.types import Decision, scaled_score, score_text

Role = Literal["taught", "held out", "bad"]


@dataclass(frozen=True, slots=True)
class DecisionCounts:
    """Numbers of images judged reject and review, and their mean score."""

    images: int
    reject: int
    review: int
    mean_score: float | None

    @classmethod
    def of(cls, scores: Sequence[float], *, reject: float, review: float) -> DecisionCounts:
        """Count scores above the limits, as `edgead.Detector.predict` does."""
        rejects = sum(score > reject for score in scores)
        flagged = sum(score > review for score in scores)
        mean = sum(scores) / len(scores) if scores else None
        return cls(len(scores), rejects, flagged - rejects, mean)


@dataclass(frozen=True, slots=True)
class JudgedPart:
    """One image of a lesson: its role, its score compared with the limit, and the decision.

    `scaled_score` is the score on the scale of `edgead.types.scaled_score`.

    `good_above` counts good images (of the thresholds) that score as high: a limit that stops this part stops them too.
    """

    image: str
    role: Role
    score: float
    of_limit: float
    scaled_score: float | None
    decision: Decision
    good_above: int


@dataclass(frozen=True, slots=True)
class Judgement:
    """Results of one graph: thresholds, their rate, counts of taught, held-out and bad images, golden scores.

    `good` are the images that the thresholds come from, `typical_score` is the median of their scores. With
    `limit_by_hand` the thresholds were set for the line by a person, and are not the model's own.
    """

    reject_threshold: float
    review_threshold: float
    false_reject_rate: float
    taught: DecisionCounts
    held_out: DecisionCounts
    bad: DecisionCounts
    good: DecisionCounts
    golden_scores: list[float]
    parts: list[JudgedPart]
    typical_score: float | None
    limit_by_hand: bool = False

    def score_text(self, score: float) -> str:
        return score_text(score, self.typical_score, self.reject_threshold)

    def counts_text(self, counts: DecisionCounts) -> str:
        if counts.mean_score is None:
            return "none"
        review = f", {counts.review} to review" if counts.review else ""
        return f"{counts.reject} of {counts.images} rejected{review}; mean score {self.score_text(counts.mean_score)}"

    def golden_text(self) -> str:
        return ", ".join(map(self.score_text, self.golden_scores))


@dataclass(frozen=True, slots=True)
class Lesson:
    """Result of a lesson; `before` and `after` have a Judgement for every precision.

    Of the bank's `bank_rows` rows, `rows_added` are new. Dropped rows and offered patches are within `radius` of a row;
    two rows of the old bank are at least `spacing` apart. The model knows `known_defects` marked defects;
    `bad_by_others` counts the bad parts as judged by the graph that was learnt, each by the other marked defects only.
    `left_out` images were not used: they lack the bit depth or heights that the model reads. `unused_defects` marked
    defects have no effect: too many good parts look like them.
    """

    model: str
    earlier_version: str
    calibrated_on: str
    bank_rows: int
    rows_added: int
    spacing: float
    radius: float
    known_defects: int
    bad_by_others: DecisionCounts | None
    before: dict[str, Judgement] = field(repr=False)
    after: dict[str, Judgement] = field(repr=False)
    left_out: int = 0
    unused_defects: int = 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def table(self) -> Table:
        """Lay out the report for a terminal; scores are scaled by their own model, 100 is its limit."""
        table = Table(title=self.model, title_justify="left", caption=self._caption(), caption_justify="left")
        for column in ("", "before", "after"):
            table.add_column(column)
        for name, before in self.before.items():
            after = self.after[name]
            graph = f" ({name})" if len(self.before) > 1 else ""
            rows = {
                "taught parts": (before.counts_text(before.taught), after.counts_text(after.taught)),
                "held-out parts": (before.counts_text(before.held_out), after.counts_text(after.held_out)),
                "good parts of the thresholds": (before.counts_text(before.good), after.counts_text(after.good)),
                "golden scores, limit 100": (before.golden_text(), after.golden_text()),
                "limit as a raw score": (f"{before.reject_threshold:.4g}", f"{after.reject_threshold:.4g}"),
            }
            if before.bad.images:
                rows["bad parts"] = before.counts_text(before.bad), after.counts_text(after.bad)
            for label, (old, new) in rows.items():
                table.add_row(label + graph, old, new)
        if self.bad_by_others is not None:
            found = next(iter(self.after.values())).counts_text(self.bad_by_others)
            table.add_row("bad parts, each by what the others teach", "", found)
        if self.left_out:
            table.add_row("images left out: not as deep as the model reads", "", str(self.left_out))
        table.add_row("known defects", "", str(self.known_defects))
        if self.unused_defects:
            table.add_row("marked defects that change nothing: good parts look like them", "", str(self.unused_defects))
        table.add_row("memory bank", f"{self.bank_rows} rows", f"{self.rows_added} of them new")
        table.add_row("covers patches within", f"{self.spacing:.3g}", f"{max(self.radius, self.spacing):.3g}")
        return table

    def _caption(self) -> str | None:
        """Caption that warns of scores that prove nothing, as the scored images were learnt."""
        judged = next(iter(self.after.values()))
        learnt = ["taught parts"] * bool(judged.taught.images) + ["bad parts"] * (self.bad_by_others is not None)
        if not learnt:
            return None
        others = ["held-out parts"] * bool(judged.held_out.images)
        others += ["bad parts, each by what the others teach"] * (self.bad_by_others is not None)
        result = f" See {' and '.join(others)}." if others else ""
        return (
            f"Of {' and '.join(learnt)} the scores after the lesson are those of the very images that were learnt: "
            f"they say nothing of new ones.{result}"
        )


def judge(detector: Detector, images: Mapping[Role, Sequence[Path]]) -> Judgement:
    """Run a calibrated detector over the images of a lesson, and its golden images."""
    limits, own = detector.graph.calibration, detector.artifact.graph(detector.graph.precision).calibration
    assert limits is not None and own is not None
    by_hand = (limits.review, limits.reject) != (own.review, own.reject)
    golden = [detector.artifact.path / image.image for image in detector.graph.golden]
    parts = [_judged(detector, limits, path, role) for role, paths in images.items() for path in paths]

    def counts(scores: Sequence[float]) -> DecisionCounts:
        return DecisionCounts.of(scores, reject=limits.reject, review=limits.review)

    taught, held_out, bad = (
        counts([part.score for part in parts if part.role == role]) for role in ("taught", "held out", "bad")
    )
    return Judgement(
        limits.reject,
        limits.review,
        share_above(limits.scores, limits.reject, limits.groups) if by_hand else limits.false_reject_rate,
        taught,
        held_out,
        bad,
        counts(limits.scores),
        detector.image_scores(golden),
        parts,
        limits.typical,
        by_hand,
    )


def _judged(detector: Detector, limits: Calibration, path: Path, role: Role) -> JudgedPart:
    score = detector.measure(detector.read_image(path)).image_score
    above = sum(good >= score for good in limits.scores)
    scaled = scaled_score(score, limits.typical, limits.reject)
    return JudgedPart(str(path), role, score, score / limits.reject, scaled, limits.decide(score), above)


def refuse_escapes(before: Mapping[str, Judgement], after: Mapping[str, Judgement]) -> None:
    """Raise LessonRefusedError if a bad part that a graph stopped would now be ok; no option overrides this."""
    for name, old in before.items():
        pairs = zip(old.parts, after[name].parts, strict=True)
        escapes = [(was, now) for was, now in pairs if was.role == "bad" and was.decision != "ok" == now.decision]
        if escapes:
            was, now = escapes[0]
            raise LessonRefusedError(
                f"{len(escapes)} bad parts that are stopped now would be ok ({name}), and nothing was learnt: "
                f"{Path(*Path(was.image).parts[-2:])} would fall from a score of {old.score_text(was.score)} to "
                f"{after[name].score_text(now.score)}, of which 100 is the limit. Leave out the good parts that look "
                "like it, or take the bad part back if it was good. If most good parts look different now (another "
                "camera or light), train a new model of the old and the new good images together"
            )
