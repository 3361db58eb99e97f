"""Verdicts as sentences, in the language that a browser asks for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, Header, Query

from edgead.serialization import Counts, preferred_language, sentence
from edgead.web.contract import Served


async def _language(
    language: Annotated[
        str, Query(max_length=100, description="Of the words, such as de; by default the browser's.")
    ] = "",
    accept_language: Annotated[str, Header()] = "",
) -> str:
    return preferred_language(language or accept_language)


Language = Annotated[str, Depends(_language)]


def words_of(row: Mapping[str, Any], daemon: Served, language: str) -> str | None:
    """Say a row of the evidence store in a sentence, with how many there were today where it is of today."""
    if row["decision"] == "ok":
        return None
    # The days of those who work here, not those of UTC.
    midnight = datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
    counts = None
    if datetime.fromisoformat(row["captured_at"]) >= midnight:
        pipeline, decision = row["pipeline"], row["decision"]
        kinds = daemon.store.kinds.counts(pipeline, since=midnight, decision=decision)["kinds"]
        by_kind = {one["kind"]: one["count"] for one in kinds}
        counts = Counts(daemon.store.counts(pipeline=pipeline, since=midnight), by_kind)
    return sentence(row, language, counts)
