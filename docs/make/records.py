"""Reference of data that programs read: records of verdicts and notices, PLC registers, database, manifest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from datetime import datetime, timezone
from typing import Any

import numpy as np
from pydantic import BaseModel

from docs.make.markdown import attributes, code, first_paragraph, table
from edgead.artifact.inputs import StrictSection
from edgead.artifact.manifest import Manifest
from edgead.heads import Head
from edgead.line.evidence.tables import SCHEMA_VERSION, metadata
from edgead.line.triggers.handshake import FLAGS, NOT_JUDGED, Status
from edgead.line.triggers.modbus import FIRST_TEXT
from edgead.serialization import verdict_record
from edgead.serialization.notice import KINDS, Notice, notice_record
from edgead.sinks.modbus import OTHER_KIND
from edgead.types import DECISIONS, FAULT, Box, Frame, FrameLines, Part, StageTimes, Verdict


def example() -> dict[str, Any]:
    """Return the record of a reject."""
    when = datetime(2026, 11, 25, 6, 0, tzinfo=timezone.utc)
    frame = Frame(np.zeros((4, 4, 3), np.uint8), 17, 0, when, "camera:0", id="01939c4e-0000-7000-8000-000000000011")
    frame = replace(frame, part=Part("A-0017", "2026-48", "cap, blue"))
    verdict = Verdict(
        image_score=1.4,
        decision="reject",
        anomaly_map=np.zeros((4, 4), np.float32),
        threshold=1.1,
        map_threshold=1.2,
        boxes=(Box(212, 96, 31, 18, 1.7, "top left"),),
        stage_times=StageTimes(0.7, 10.8, 4.5, 0.1, age_ms=1.2),
        review_threshold=0.9,
        typical_score=0.6,
        p_value=0.01,
        pipeline="caps",
        model="8f3c…",
        kind="scratch",
        kind_p_value=0.4,
    )
    return verdict_record(frame, verdict)


def record_page() -> str:
    """Write the page of the record that MQTT, webhooks and JSON lines carry.

    Raises
    ------
    KeyError
        A key of the record that neither Frame nor Verdict describes.
    """
    known = {**attributes(Verdict.__doc__), **attributes(Frame.__doc__), **attributes(Part.__doc__)}
    own = {
        "image_score": attributes(Verdict.__doc__)["image_score"],
        "score": first_paragraph(Verdict.score.__doc__),
        "stage_times": first_paragraph(StageTimes.__doc__),
    }
    own["captured_at"] = "When the image was in memory: UTC, ISO 8601."
    always, known_mm = ([code(one.name) for one in fields(Box) if (one.default is None) is mm] for mm in (False, True))
    own["boxes"] = f"{known['boxes']} Each has {', '.join(always)}; where known, {', '.join(known_mm)}."
    of_strips = ", ".join(map(code, FrameLines(0, 0, 1.0).to_dict()))
    rows = [[code(key), own.get(key) or known[key]] for key in example()]
    parts = (
        "# The record of a verdict",
        "MQTT messages, webhooks and JSON lines carry the same record. That of a [part](../how-to/parts.md) has "
        "`reason` and `views` too; that of a model that [lays parts](../how-to/regions.md#parts-that-do-not-lie-still) "
        "or [measures depth](../how-to/measure-heights.md#push_mm) has values in `measured`. A frame of a "
        f"[line-scan camera](../how-to/cameras.md#line-scan-cameras) has {of_strips}. A frame of another format has "
        f"`other_format`: {known['other_format']}",
        f"```json\n{json.dumps(example(), indent=2, ensure_ascii=False)}\n```",
        table(("key", "is"), rows),
        *_notice_parts(),
    )
    return "\n\n".join(parts) + "\n"


def _notice_parts() -> Iterator[str]:
    when = datetime(2026, 11, 25, 6, 0, tzinfo=timezone.utc)
    text = "5 parts in a row were rejected: is it the right model for this part?"
    raised = Notice("01939c4e-…", "rejects_in_a_row", "pipeline", "caps", "critical", text, when, 5.0, 5.0)
    own = {
        "type": "Always `notice`: what has no `type` is a verdict.",
        "event": "What happened last: `raised`, `acknowledged` or `resolved`. A message comes for each.",
    }
    known = {**attributes(Notice.__doc__), **own}
    yield "## The record of a notice"
    yield (
        "MQTT messages on `notice_topic`, webhooks and the event `notice` of `GET /api/events` carry it; "
        "[Alarms](../how-to/alarms.md) has what it is for."
    )
    record = notice_record(raised)
    yield f"```json\n{json.dumps(record, indent=2, ensure_ascii=False)}\n```"
    yield table(("key", "is"), ([code(key), known[key]] for key in record))
    severities = ([code(kind), about, ", ".join(severity)] for kind, (about, severity) in KINDS.items())
    yield table(("kind", "about", "severity"), severities)


def modbus_page() -> str:
    """Write the page of the registers and coils of a PLC."""
    coils = [[f"coil +{number}", f"the decision was {decision}"] for number, decision in enumerate(DECISIONS)]
    toggle = "toggles with each verdict; it is written with the others and after the registers: wait for its change"
    codes = ", ".join(f"{number} {decision}" for number, decision in enumerate((*DECISIONS, FAULT)))
    rows = [
        *coils,
        [f"coil +{len(DECISIONS)}", toggle],
        ["register +0, +1", "verdicts so far, uint32, high word first; a gap shows that the PLC has missed verdicts"],
        ["register +2, +3", "image score, float32, high word first"],
        ["register +4", f"decision: {codes}"],
        ["register +5", f"kind: 0 none, 1 and up the place in `kinds`, {OTHER_KIND} every other; only with `kinds`"],
    ]
    parts = (
        "# The Modbus map",
        "## The sink",
        "Addresses count from 0 and begin at the sink's options `coil` and `register`, see "
        "[Components](components.md#modbus). Give each pipeline that talks to a PLC a sink with addresses of its own.",
        table(("address", "holds"), rows),
        "## The trigger",
        "Holding registers from the trigger's options `command` and `status` on, see "
        "[Components](components.md#modbus_1); [how they are used](../how-to/plc-and-plant.md#a-plc-that-asks).",
        table(("the PLC writes", "holds"), _command_rows()),
        table(("edgead writes, in one request", "holds"), _status_rows()),
    )
    return "\n\n".join(parts) + "\n"


def _command_rows() -> Iterator[list[str]]:
    meanings = (
        "sequence: number of the part that is asked for, another than before; 0 asks for none",
        "heartbeat: changes while the PLC's program runs; looked at only with `silent_s`",
        "recipe: number in `recipes`; 0 for none",
        "reset: a change of it resets the counters and the fault",
    )
    assert len(meanings) == FIRST_TEXT
    yield from ([f"`command` +{number}", meaning] for number, meaning in enumerate(meanings))
    yield [f"`command` +{FIRST_TEXT} on", "serial number: `serial_registers` of two ASCII characters, NUL at the end"]
    yield ["behind it", "batch: `batch_registers`, the same way"]


def _status_rows() -> Iterator[list[str]]:
    codes = ", ".join(f"{number} {decision}" for number, decision in enumerate(DECISIONS))
    own = {
        "heartbeat": "heartbeat: counts what edgead writes, at least every `beat_s`",
        "accepted": "accepted: number of the part that was asked for last",
        "answered": "answered: number of the last part that has an answer",
        "decision": f"decision of that part: {codes}, {NOT_JUDGED} not judged",
        "score": "image score of that part, float32, high word first",
        "recipe": "recipe: the number that is in force, the acknowledgement of a change",
        "reset": "reset: the number that was carried out last",
        "judged": "parts judged since the last reset, modulo 65,536",
        "rejected": "those of them that were rejected",
        "not_judged": "parts without a verdict since the last reset",
    }
    flags = ", ".join(f"{1 << bit} {name}" for bit, name in enumerate(FLAGS))
    place = 0
    for name in ("flags", *(field.name for field in fields(Status) if field.name not in FLAGS)):
        size = 2 if name == "score" else 1
        address = ", ".join(f"+{place + one}" for one in range(size))
        yield [f"`status` {address}", f"flags: {flags}" if name == "flags" else own[name]]
        place += size


def database_page() -> str:
    """Write the page of the evidence store's tables."""
    parts = [
        "# The database",
        f"SQLite in `verdicts.sqlite` of the store's folder, or PostgreSQL. Version {SCHEMA_VERSION} of the tables.",
    ]
    for each in metadata.sorted_tables:
        parts += [f"## `{each.name}`", table(("column", "type", "may be NULL", "is"), map(_column, each.columns))]
    return "\n\n".join(parts) + "\n"


def _column(column: Any) -> list[str]:
    return [code(column.name), str(column.type), "yes" if column.nullable else "", column.doc or ""]


def manifest_page() -> str:
    """Write the page of the manifest of a model."""
    schema = Manifest.model_json_schema(mode="validation")
    models = {"Manifest": schema, **schema["$defs"]}
    classes = {each.__name__: each for each in _subclasses(StrictSection)}
    parts = ["# The manifest", "`manifest.json` of a model, see [a model](artifact.md). Unknown keys are errors."]
    for name, definition in models.items():
        parts += [f"## {name}", _text(classes.get(name, Head)), table(("key", "takes", "default"), _rows(definition))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _subclasses(kind: type[Any]) -> Iterator[type[Any]]:
    for each in kind.__subclasses__():
        yield each
        yield from _subclasses(each)


def _text(model: type[BaseModel]) -> str:
    listed = attributes(model.__doc__)
    text = [first_paragraph(model.__doc__)]
    text += ["\n".join(f"- `{name}`: {meaning}" for name, meaning in listed.items())] if listed else []
    return "\n\n".join(text)


def _takes(field: Mapping[str, Any]) -> str:
    """Describe the values that a key takes, from its JSON Schema."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in field:
        return " or ".join(_takes(each) for each in field["anyOf"] if each.get("type") != "null")
    if "enum" in field or "const" in field:
        return ", ".join(map(code, field.get("enum", [field.get("const")])))
    if "prefixItems" in field:
        return f"{len(field['prefixItems'])} numbers"
    if field.get("type") == "array":
        return f"list of {_takes(field['items'])}"
    if isinstance(field.get("additionalProperties"), dict):
        return f"{_takes(field['additionalProperties'])} by name"
    return {"integer": "whole number", "string": "text", "object": "any keys"}.get(
        field.get("type", ""), field.get("type", "")
    )


def _rows(definition: Mapping[str, Any]) -> Iterator[list[str]]:
    for name, field in definition.get("properties", {}).items():
        default = "must be given" if name in definition.get("required", ()) else code(json.dumps(field.get("default")))
        yield [code(name), _takes(field), default if len(default) < 60 else ""]
