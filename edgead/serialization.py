"""A verdict in values that JSON, a database and other programs know, and the label of its frame."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from edgead.types import Frame, Verdict


def verdict_record(frame: Frame, verdict: Verdict) -> dict[str, Any]:
    """Describe a verdict and the frame that it is of; the image and the anomaly map are left out."""
    return {
        "id": frame.id,
        "pipeline": verdict.pipeline,
        "number": frame.number,
        "name": frame.name,
        "captured_at": frame.captured_at.isoformat(),
        "source": frame.source,
        "image_score": float(verdict.image_score),
        "threshold": float(verdict.threshold),
        "review_threshold": verdict.review_threshold,
        "decision": verdict.decision,
        "p_value": verdict.p_value,
        "model": verdict.model,
        "boxes": [asdict(box) for box in verdict.boxes],
        "stage_times": asdict(verdict.stage_times),
    }


def record_json(frame: Frame, verdict: Verdict) -> str:
    """Write the record of a verdict as one line of JSON."""
    return json.dumps(verdict_record(frame, verdict), allow_nan=False, ensure_ascii=False)


def frame_label(frame: Frame) -> str:
    """Name a frame for people: by its name, else by its number."""
    return frame.name or f"frame {frame.number}"
