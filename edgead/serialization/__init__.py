"""Verdicts as records for other programs, and as sentences for people."""

from __future__ import annotations

from edgead.serialization.record import frame_label, record_json, verdict_record
from edgead.serialization.words import VerdictCounts, checked_language, language_names, preferred_language, sentence

__all__ = [
    "VerdictCounts",
    "checked_language",
    "frame_label",
    "language_names",
    "preferred_language",
    "record_json",
    "sentence",
    "verdict_record",
]
