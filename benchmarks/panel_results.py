"""One JSON file for each data set and setting: what was measured, on what, by which code. A run goes on from them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import edgead
from benchmarks.panel_sets import PanelSet
from edgead.profiling.latency import machine_facts
from edgead.report.evaluate import Outcome

# To be raised when a measure means something else than before: results of another protocol are measured again.
PROTOCOL = 4
PROTOCOL_TEXT = (
    "train/good is learnt by train_from_folder with its default rates; each good image is scored by what was learnt "
    "from other groups, or whole groups are held out where the detector cannot do that; the exported model judges "
    "every image of test in fp32 on ONNX Runtime; pixel measures over good images and defects with a mask; frame times "
    "of at most 60 test images from memory, median and 95th percentile on the fastest engine that is installed"
)


@dataclass(frozen=True, slots=True)
class Result:
    """What is known of a setting on a data set; see `write` for what a file holds."""

    set_name: str
    setting: str
    content: dict[str, Any]

    @property
    def measures(self) -> dict[str, float | None]:
        return dict(self.content["measures"])

    @property
    def is_opponent(self) -> bool:
        return bool(self.content["opponent"])


class Results:
    """The results in a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def find(self, data: PanelSet, setting: str, key: dict[str, Any]) -> Result | None:
        """The result with the same key, if there is one; one with another key is not taken for it."""
        file = self._file(data.name, setting)
        if not file.is_file():
            return None
        result = _read(file)
        return result if result.content["key"] == key else None

    def write(self, data: PanelSet, setting: str, key: dict[str, Any], measured: dict[str, Any]) -> Result:
        """Write a result atomically, with the machine, the code and the date."""
        content = {
            "set": data.name,
            "setting": setting,
            "opponent": False,
            "key": key,
            **measured,
            "protocol": PROTOCOL_TEXT,
            "edgead": edgead.__version__,
            "commit": commit(),
            "machine": machine_facts(),
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self._file(data.name, setting)
        draft = file.with_suffix(".draft")
        draft.write_text(json.dumps(content, indent=1), encoding="utf-8")
        draft.replace(file)
        return Result(data.name, setting, content)

    def all(self, sets: Sequence[str] = ()) -> list[Result]:
        """Every result of the sets that are asked for, by default of all, in the order of their dates."""
        found = [_read(file) for file in sorted(self.folder.glob("*.json"))]
        chosen = [result for result in found if not sets or result.set_name in sets]
        return sorted(chosen, key=lambda result: result.content["date"])

    def _file(self, set_name: str, setting: str) -> Path:
        return self.folder / f"{_file_name(set_name)}.{_file_name(setting)}.json"


def result_key(data: PanelSet, detector: str, settings: dict[str, Any]) -> dict[str, Any]:
    """What must be equal for a result to be the one that is asked for, in plain JSON types."""
    key = {
        "protocol": PROTOCOL,
        "data": data.fingerprint(),
        "groups": data.group_fingerprint(),
        "detector": detector,
        "settings": settings,
    }
    return dict(json.loads(json.dumps(key)))


def image_rows(outcomes: Sequence[Outcome], data: PanelSet) -> list[dict[str, Any]]:
    """Every test image with its score and what the shipped thresholds say: for analyses that need no second run."""
    return [
        {
            "image": outcome.image.path.relative_to(data.folder).as_posix(),
            "defect": outcome.image.defect,
            "score": outcome.image_score,
            "decision": outcome.decision,
        }
        for outcome in outcomes
    ]


def commit() -> str:
    """The commit of this code, with -dirty behind it where files differ from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def _read(file: Path) -> Result:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return Result(content["set"], content["setting"], content)
    except (ValueError, KeyError, TypeError):
        raise SystemExit(f"{file} is not a result of the panel: delete it, and it is measured again") from None


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_=-]+", "_", name)
