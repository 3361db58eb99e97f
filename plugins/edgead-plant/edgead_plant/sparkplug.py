"""Payloads and topics of Sparkplug B, version 3.0 (protobuf).

Only the fields that edgead uses are declared here, by the numbers of section 6.4 of the specification; other fields
received are skipped, as protobuf does with unknown fields.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from edgead.errors import SettingsError
from edgead.process.installation import plugin_command

Kind = Literal["UInt64", "Double", "Boolean", "String"]
# Number of each Sparkplug data type, and the payload field that carries its value.
_KINDS: dict[Kind, tuple[int, str]] = {
    "UInt64": (8, "long_value"),
    "Double": (10, "double_value"),
    "Boolean": (11, "boolean_value"),
    "String": (12, "string_value"),
}
_METRIC = {
    "name": (1, "STRING"),
    "timestamp": (3, "UINT64"),
    "datatype": (4, "UINT32"),
    "is_historical": (5, "BOOL"),
    "is_null": (7, "BOOL"),
    "long_value": (11, "UINT64"),
    "double_value": (13, "DOUBLE"),
    "boolean_value": (14, "BOOL"),
    "string_value": (15, "STRING"),
}
_PAYLOAD = {"timestamp": (1, "UINT64"), "seq": (3, "UINT64")}
BIRTH_DEATH, REBIRTH = "bdSeq", "Node Control/Rebirth"


@dataclass(frozen=True, slots=True)
class Metric:
    """Named value; None stands for a value that is not known yet.

    `timestamp_ms`: time of the value, since 1970; None takes the message's time.
    `historical`: true for a past value, false for the present value.
    """

    name: str
    kind: Kind
    value: int | float | bool | str | None
    timestamp_ms: int | None = None
    historical: bool = False


def topic(group: str, message: str, node: str, device: str | None = None) -> str:
    """Return the topic of a message such as NBIRTH or DDATA."""
    return "/".join(["spBv1.0", group, message, node, *([device] if device is not None else [])])


def encode(metrics: Iterable[Metric], timestamp_ms: int, seq: int | None = None) -> bytes:
    """Encode a payload; without `seq` it has no sequence number, as for NDEATH."""
    payload = _message()(timestamp=timestamp_ms)
    if seq is not None:
        payload.seq = seq
    for metric in metrics:
        datatype, field = _KINDS[metric.kind]
        at_ms = timestamp_ms if metric.timestamp_ms is None else metric.timestamp_ms
        added = payload.metrics.add(name=metric.name, timestamp=at_ms, datatype=datatype)
        if metric.historical:
            added.is_historical = True
        if metric.value is None:
            added.is_null = True
        else:
            setattr(added, field, metric.value)
    data: bytes = payload.SerializeToString()
    return data


def decode(data: bytes) -> Any:
    """Decode a payload into a protobuf message with `timestamp`, `seq` and `metrics`.

    Raises ValueError: the data is no such payload.
    """
    from google.protobuf.message import DecodeError

    try:
        return _message().FromString(data)
    except DecodeError as error:
        raise ValueError(f"no payload of Sparkplug B: {error}") from None


def asks_for_rebirth(data: bytes) -> bool:
    """Return whether an NCMD message asks for a rebirth; a payload that cannot be read does not."""
    try:
        metrics = decode(data).metrics
    except ValueError:
        return False
    return any(metric.name == REBIRTH and metric.boolean_value for metric in metrics)


@cache
def _message() -> Any:
    try:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    except ModuleNotFoundError:
        raise SettingsError(f"Sparkplug needs `{plugin_command('edgead-plant[sparkplug]')}`") from None
    field_type = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="edgead/sparkplug_b.proto", package="edgead.sparkplug")
    payload = file.message_type.add(name="Payload")
    metric = payload.nested_type.add(name="Metric")
    for message, declared in ((payload, _PAYLOAD), (metric, _METRIC)):
        for name, (number, kind) in declared.items():
            kinds = {"label": field_type.LABEL_OPTIONAL, "type": getattr(field_type, f"TYPE_{kind}")}
            message.field.add(name=name, number=number, **kinds)
    repeated = {"label": field_type.LABEL_REPEATED, "type": field_type.TYPE_MESSAGE}
    payload.field.add(name="metrics", number=2, type_name=".edgead.sparkplug.Payload.Metric", **repeated)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("edgead.sparkplug.Payload"))
