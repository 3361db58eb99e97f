"""An ONNX file that runs to its end and is all there: no control flow, no functions, no values in other files.

What has a graph within a node (Loop, Scan, If) need not end, and OpenVINO cannot be stopped within one. Functions that
call functions can grow without bound when an engine unfolds them. Values in other files are covered by no hash.
"""

from __future__ import annotations

from collections.abc import Iterator

from edgead.artifact.protobuf import Field, fields, read_varint
from edgead.errors import EdgeadError

_MAX_FIELDS = 100_000  # a quantised network of a thousand nodes has a quarter of them

# Which fields of a message are messages of interest, by their numbers in onnx.proto3.
_WITHIN: dict[str, dict[int, str]] = {
    "model": {7: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 10: "tensor", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_DATA_LOCATION = 14
_REFUSED = {
    ("model", 25): "it has functions of its own",
    ("attribute", 6): "a node of it has a graph of its own (Loop, Scan, If), which need not end",
    ("attribute", 11): "a node of it has graphs of its own, which need not end",
    ("tensor", 13): "it has values in another file",
    ("tensor", _DATA_LOCATION): "it has values in another file",
}


class OpenGraphError(EdgeadError):
    """A graph that may not end, or is not all in its file; the message says why."""


def check_closed(model: bytes) -> None:
    """Raise OpenGraphError unless an ONNX file is all there and runs to its end; OnnxFormatError where it is none."""
    for seen, (message, field) in enumerate(_walk(model, "model", 0, len(model))):
        reason = _REFUSED.get((message, field.number))
        if reason and not (field.number == _DATA_LOCATION and read_varint(model, field.start)[0] == 0):
            raise OpenGraphError(reason)
        if seen > _MAX_FIELDS:
            raise OpenGraphError(f"it has more than {_MAX_FIELDS} parts")


def _walk(model: bytes, message: str, start: int, end: int) -> Iterator[tuple[str, Field]]:
    """Yield every field with the kind of message that it is in."""
    for field in fields(model, start, end):
        yield message, field
        within = _WITHIN[message].get(field.number)
        if within:
            yield from _walk(model, within, field.start, field.end)
