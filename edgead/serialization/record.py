"""A verdict in values that JSON, a database and other programs know, and the label of its frame."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from edgead.types import Frame, PartVerdict, Verdict


def verdict_record(frame: Frame, verdict: Verdict) -> dict[str, Any]:
    """Describe a verdict and the frame that it is of; the image and the anomaly map are left out.

    That of a part has its views and the reason of a fault beside it, that of a line-scan camera the frame's lines.
    """
    record = {
        "id": frame.id,
        "pipeline": verdict.pipeline,
        "number": frame.number,
        "name": frame.name,
        **asdict(frame.part),
        "captured_at": frame.captured_at.isoformat(),
        "source": frame.source,
        **Verdict.to_dict(verdict),  # that of an ImageVerdict has a name of its own
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
    """Name a frame for people: by its name, else by its number."""
    return frame.name or f"frame {frame.number}"
