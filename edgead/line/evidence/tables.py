"""The tables of the evidence store, for SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    ColumnElement,
    DateTime,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    literal_column,
)

from edgead.types import MAX_PART_CHARACTERS

SCHEMA_VERSION = 9


class Utc(TypeDecorator):
    """Column type of an instant; SQLite keeps no time zone, so instants are stored as UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:
        return None if value is None else value.astimezone(timezone.utc)

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value.astimezone(timezone.utc)


metadata = MetaData()


def _sequence() -> Column:
    # Neither ids nor times of capture show the order of arrival, once the clock has been set back.
    return Column(
        "seq",
        BigInteger().with_variant(Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
        doc="Order of arrival: the one order that survives a clock that is set back.",
    )


# Written out, never as a parameter: only then does a database see that the index of these rows answers a query.
WITH_DEFECT: ColumnElement[bool] = literal_column("decision <> 'ok'")
# Look-ups by part or file: only rows that name one are in the index, so that lines without them pay nothing.
NAMES_PART: dict[str, ColumnElement[bool]] = {
    name: literal_column(f"{name} <> ''") for name in ("serial", "batch", "recipe", "name")
}


def _of_part(name: str, doc: str) -> Column:
    return Column(name, String(MAX_PART_CHARACTERS), nullable=False, server_default="", doc=doc)


def _by_part(name: str) -> Index:
    return Index(f"verdicts_by_{name}", name, "seq", sqlite_where=NAMES_PART[name], postgresql_where=NAMES_PART[name])


verdicts = Table(
    "verdicts",
    metadata,
    _sequence(),
    Column(
        "id",
        String(36),
        nullable=False,
        doc="Of the capture, UUIDv7. An id and a pipeline that are there are never written twice.",
    ),
    Column("pipeline", String(64), nullable=False, doc="Which pipeline judged."),
    Column("number", BigInteger, nullable=False, doc="Number of the frame in its source."),
    Column("name", Text, nullable=False, doc="File name of the image, or empty."),
    Column("source", Text, nullable=False, doc="URI of the source, without credentials."),
    Column("captured_at", Utc, nullable=False, doc="UTC."),
    Column("judged_at", Utc, nullable=False, doc="UTC."),
    Column("image_score", Double, nullable=False, doc="Raw score; higher is more unusual."),
    Column("threshold", Double, nullable=False, doc="A score above it was rejected, at that moment."),
    Column("review_threshold", Double, doc="A score above it was sent to review; NULL where nobody said."),
    Column("typical_score", Double, doc="Median score of the good parts of the thresholds; NULL where none are known."),
    Column("decision", String(8), nullable=False, doc="ok, review or reject."),
    Column("p_value", Double, doc="The share of good parts that score as high or higher is at most that."),
    Column("model", String(64), nullable=False, doc="Hash of the model's manifest."),
    Column("age_ms", Double, doc="Age of the frame when work on it began."),
    Column("preprocess_ms", Double, nullable=False, doc="Time in that stage."),
    Column("infer_ms", Double, nullable=False, doc="Time in that stage."),
    Column("score_ms", Double, nullable=False, doc="Time in that stage."),
    Column("smooth_ms", Double, nullable=False, doc="Time in that stage."),
    Column("boxes", JSON, nullable=False, doc="JSON: x, y, width, height, peak of each region."),
    Column("folder", String(64), doc="Of its images, in the store's folder; NULL where none are kept."),
    Column("kind", Text, doc="Of its defect, in the model's words; NULL for ok, and where nobody sorted."),
    Column("kind_p_value", Double, doc="The share of known rejects as far from their kind is at most that."),
    _of_part("serial", "Serial number of the part, or empty."),
    _of_part("batch", "Batch of the part, or empty."),
    _of_part("recipe", "Recipe that the part asked for, or empty."),
    Column("first_line", BigInteger, doc="Of a line-scan camera: number of the frame's first line; NULL elsewhere."),
    Column("lost_lines", BigInteger, doc="Lines before it that are in no frame, as strips were lost."),
    Column("first_mm", Double, doc="The first line in mm, where the camera's `mm_per_line` says so."),
    Column("other_format", String(16), doc="proportions, size or small: how the frame differs from those learnt."),
    Column("measured", JSON, nullable=False, server_default="{}", doc="JSON: what the model measured, by name."),
    # Two pipelines may judge the same capture.
    Index("verdicts_by_id", "id", "pipeline", unique=True),
    Index("verdicts_by_pipeline", "pipeline", "seq"),
    Index("verdicts_by_decision", "decision", "seq"),
    # The few rows that kinds are counted from, with all columns for it: a week costs its defects, and no row is read.
    Index(
        "verdicts_with_defects",
        "pipeline",
        "judged_at",
        "decision",
        "kind",
        "id",
        sqlite_where=WITH_DEFECT,
        postgresql_where=WITH_DEFECT,
    ),
    *map(_by_part, NAMES_PART),
    # All columns that production figures need: a shift costs its part of the index, and no row is read.
    Index("verdicts_by_time", "pipeline", "judged_at", "decision", "batch", "recipe"),
    # Without it an SQLite sequence starts again once the last row has been deleted.
    sqlite_autoincrement=True,
)

parts = Table(
    "part_verdicts",
    metadata,
    _sequence(),
    Column("id", String(36), nullable=False, doc="Of the capture of the view that stands for the part."),
    Column("part", String(64), nullable=False, doc="Which part, as the site file names it."),
    Column("serial", Text, nullable=False, doc="Serial number, or empty."),
    Column("batch", Text, nullable=False, doc="Batch, or empty."),
    Column("recipe", Text, nullable=False, doc="Recipe, or empty."),
    Column("decision", String(8), nullable=False, doc="ok, review, reject or fault."),
    Column("reason", Text, nullable=False, doc="Of a fault, or empty."),
    Column("captured_at", Utc, nullable=False, doc="UTC."),
    Column("judged_at", Utc, nullable=False, doc="UTC."),
    Column("views", JSON, nullable=False, doc="JSON: pipeline, id, decision, scores, boxes of each view."),
    Index("part_verdicts_by_id", "id", "part", unique=True),
    Index("part_verdicts_by_part", "part", "seq"),
    Index("part_verdicts_by_serial", "serial", "seq"),
    Index("part_verdicts_by_time", "part", "judged_at", "decision", "batch", "recipe"),
    sqlite_autoincrement=True,
)

marks = Table(
    "marks",
    metadata,
    Column("id", String(36), primary_key=True, doc="Of the verdict whose part a person marked as good or bad."),
    Column("pipeline", String(64), primary_key=True, doc="Which pipeline judged."),
    Column("at", Utc, nullable=False, doc="UTC."),
    Column("by", Text, nullable=False, doc="Who marked it."),
    Column("note", Text, nullable=False, doc="What they wrote."),
    Column("verdict", String(8), nullable=False, server_default="good", doc="good or bad, as they saw the part."),
)

corrections = Table(
    "kind_corrections",
    metadata,
    Column("id", String(36), primary_key=True, doc="Of the verdict whose defect a person found to be of another kind."),
    Column("pipeline", String(64), primary_key=True, doc="Which pipeline judged."),
    Column("kind", Text, nullable=False, doc="The kind that it is, as it is shown."),
    Column("at", Utc, nullable=False, doc="UTC."),
    Column("by", Text, nullable=False, doc="Who corrected it."),
    Index("kind_corrections_by_kind", "pipeline", "kind"),
)

names = Table(
    "kind_names",
    metadata,
    Column("pipeline", String(64), primary_key=True, doc="Of which pipeline."),
    Column("kind", Text, primary_key=True, doc="A kind in the model's words."),
    Column("name", Text, nullable=False, doc="What it is shown as; kinds of one name are shown as one."),
)

orders = Table(
    "orders",
    metadata,
    _sequence(),
    Column("name", Text, nullable=False, doc="Of the order, or empty."),
    Column("batch", Text, nullable=False, doc="What its parts are of, or empty."),
    Column("started_at", Utc, nullable=False, doc="UTC; it lasts until the next one starts."),
    Column("by", Text, nullable=False, doc="Who started it."),
    sqlite_autoincrement=True,
)

audit = Table(
    "audit",
    metadata,
    _sequence(),
    Column("at", Utc, nullable=False, doc="UTC."),
    Column("by", Text, nullable=False, doc="Who made the change."),
    Column("action", String(64), nullable=False, doc="What was changed."),
    Column("pipeline", String(64), nullable=False, doc="Of which pipeline."),
    Column("before", JSON, doc="What it was."),
    Column("after", JSON, doc="What it is."),
    Column("previous", String(64), nullable=False, doc="Hash of the row before; of the first one, 64 zeros."),
    Column("hash", String(64), nullable=False, doc="SHA-256 of all that the row says, and of `previous`."),
    sqlite_autoincrement=True,
)

passed_frames = Table(
    "passed_frames",
    metadata,
    Column("pipeline", String(64), primary_key=True, doc="Whose frames went by without a verdict in time."),
    Column("at", Utc, primary_key=True, doc="Begin of the minute in which they did, UTC."),
    Column("reason", String(8), primary_key=True, doc="lost, late, in_fault or paused."),
    Column("frames", BigInteger, nullable=False, doc="How many."),
)

schema = Table("schema_version", metadata, Column("version", Integer, primary_key=True, doc="Version of the tables."))
