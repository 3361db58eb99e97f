"""The tables of the evidence store, for SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Double,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
)

SCHEMA_VERSION = 1


class Utc(TypeDecorator):
    """An instant; SQLite keeps no time zone, so it is always given UTC."""

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
    # The order of arrival. Neither ids nor times of capture show it, once the clock has been set back.
    return Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)


verdicts = Table(
    "verdicts",
    metadata,
    _sequence(),
    Column("id", String(36), nullable=False),
    Column("pipeline", String(64), nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("name", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("captured_at", Utc, nullable=False),
    Column("judged_at", Utc, nullable=False),
    Column("image_score", Double, nullable=False),
    Column("threshold", Double, nullable=False),
    Column("review_threshold", Double),
    Column("decision", String(8), nullable=False),
    Column("p_value", Double),
    Column("model", String(64), nullable=False),
    Column("age_ms", Double),
    Column("preprocess_ms", Double, nullable=False),
    Column("infer_ms", Double, nullable=False),
    Column("score_ms", Double, nullable=False),
    Column("smooth_ms", Double, nullable=False),
    Column("boxes", JSON, nullable=False),
    Column("folder", String(64)),  # of its images, below `images/`; NULL where none are kept
    # Two pipelines may judge the same capture.
    Index("verdicts_by_id", "id", "pipeline", unique=True),
    Index("verdicts_by_pipeline", "pipeline", "seq"),
    Index("verdicts_by_decision", "decision", "seq"),
    # Without it an SQLite sequence starts again once the last row has been deleted.
    sqlite_autoincrement=True,
)

marks = Table(
    "marks",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("pipeline", String(64), primary_key=True),
    Column("at", Utc, nullable=False),
    Column("by", Text, nullable=False),
    Column("note", Text, nullable=False),
)

audit = Table(
    "audit",
    metadata,
    _sequence(),
    Column("at", Utc, nullable=False),
    Column("by", Text, nullable=False),
    Column("action", String(64), nullable=False),
    Column("pipeline", String(64), nullable=False),
    Column("before", JSON),
    Column("after", JSON),
    sqlite_autoincrement=True,
)

schema = Table("schema_version", metadata, Column("version", Integer, primary_key=True))
