"""Records: verdicts as plain values for JSON, databases and other programs, and the label of a frame."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from edgead.types import Frame, PartVerdict, Verdict


def verdict_record(frame: Frame, verdict: Verdict) -> dict[str, Any]:
    """Convert a verdict and its frame to plain values, without the image and the anomaly map.

    The record of a part also has its views and the reason of a fault, that of a line-scan camera the frame's lines.
    """
    record = {
        "id": frame.id,
        "pipeline": verdict.pipeline,
        "number": frame.number,
        "name": frame.name,
        **asdict(frame.part),
        "captured_at": frame.captured_at.isoformat(),
        "source": frame.source,
        **Verdict.to_dict(verdict),  # not `to_dict` of an ImageVerdict, which adds a name
    }
    if frame.lines is not None:
        record |= frame.lines.to_dict()
    if isinstance(verdict, PartVerdict):
        record |= {"reason": verdict.reason, "views": list(verdict.views)}
    return record


def record_json(frame: Frame, verdict: Verdict) -> str:
    """Write the record of a verdict as one line of JSON."""
    return json.dumps(verdict_record(frame, verdict), allow_nan=False, ensure_ascii=False)


def frame_label(frame: Frame) -> str:
    """Return the name of a frame for people, or its number if it has no name."""
    return frame.name or f"frame {frame.number}"
