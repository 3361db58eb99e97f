"""ONNX files without the package onnx, which a device does not have: checked, and with inputs as constants.

An ONNX file is one protobuf message (https://onnx.ai/onnx/repo-docs/IR.html, onnx.proto3): parts of it are left out,
and others put at its end. It must run to its end and be all there. What has a graph within a node (Loop, Scan, If) need
not end, and OpenVINO cannot be stopped within one. Functions that call functions can grow without bound when an engine
unfolds them. Values in other files are covered by no hash.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from edgead.errors import EdgeadError

VARINT, LENGTH = 0, 2
_FIXED64, _FIXED32 = 1, 5
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
# Numbers of fields in onnx.proto3.
_GRAPH, _PROPERTIES = 7, 14  # of ModelProto
_INITIALIZER, _INPUT = 5, 11  # of GraphProto
_INPUT_NAME = 1  # of ValueInfoProto
_SIDE, _DATA_TYPE, _NAME, _RAW_DATA = 1, 2, 8, 9  # of TensorProto
_KEY, _VALUE = 1, 2  # of StringStringEntryProto
_FLOAT = 1


class OnnxFormatError(EdgeadError):
    """Not an ONNX file as edgead writes it."""


class Field(NamedTuple):
    """One field: its number, and where in the file its tag, its content and its end are."""

    number: int
    wire_type: int
    at: int
    start: int
    end: int


def fields(message: bytes, start: int = 0, end: int | None = None) -> Iterator[Field]:
    """Yield the fields of a message that lies in some bytes.

    Raises
    ------
    OnnxFormatError
        The bytes are none, or the message is cut off.
    """
    at, end = start, len(message) if end is None else end
    while at < end:
        tag, content = read_varint(message, at)
        wire_type = tag & 7
        if tag > 0xFFFFFFFF:  # readers differ in what they make of it
            raise OnnxFormatError(f"no ONNX file: a field of number {tag >> 3} at byte {at}")
        if wire_type == LENGTH:
            length, content = read_varint(message, content)
        elif wire_type == VARINT:
            length = read_varint(message, content)[1] - content
        elif wire_type in (_FIXED64, _FIXED32):
            length = 8 if wire_type == _FIXED64 else 4
        else:
            raise OnnxFormatError(f"no ONNX file: a field of unknown type {wire_type} at byte {at}")
        if content + length > end:
            raise OnnxFormatError(f"no whole ONNX file: a field ends at byte {content + length} of {end}")
        yield Field(tag >> 3, wire_type, at, content, content + length)
        at = content + length


def read_varint(message: bytes, at: int) -> tuple[int, int]:
    """Read a number; returns it and where the next byte is."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise OnnxFormatError(f"no ONNX file: no number ends at byte {at}")


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


def with_constants(model: bytes, arrays: Mapping[str, np.ndarray]) -> bytes:
    """Give float32 inputs of a graph their values: they become constants.

    TensorRT needs this: its importer wants the weights of a convolution when it builds the engine. So does what makes
    graphs of other precisions, which looks for constants.

    Raises
    ------
    OnnxFormatError
        The bytes are no ONNX file, or the graph has no such input.
    """
    if not arrays:
        return model
    found: set[str] = set()
    parts = []
    for part in fields(model):
        if part.number != _GRAPH:
            parts.append(model[part.at : part.end])
            continue
        inputs = {field.at: name for field, name in _inputs(model, part) if name in arrays}
        kept = [model[f.at : f.end] for f in fields(model, part.start, part.end) if f.at not in inputs]
        constants = [_message(_INITIALIZER, _tensor(name, arrays[name])) for name in inputs.values()]
        parts.append(_message(_GRAPH, b"".join([*kept, *constants])))
        found.update(inputs.values())
    missing = arrays.keys() - found
    if missing:
        raise OnnxFormatError(f"the graph has no input {min(missing)!r}")
    return b"".join(parts)


def with_properties(model: bytes, properties: Mapping[str, str]) -> bytes:
    """Replace the properties (metadata_props) of a model by others."""
    kept = [model[field.at : field.end] for field in fields(model) if field.number != _PROPERTIES]
    return b"".join([*kept, *(_message(_PROPERTIES, _entry(*item)) for item in properties.items())])


def _inputs(model: bytes, graph: Field) -> Iterator[tuple[Field, str]]:
    """Yield the inputs of a graph with their names."""
    for field in fields(model, graph.start, graph.end):
        if field.number == _INPUT:
            for part in fields(model, field.start, field.end):
                if part.number == _INPUT_NAME:
                    yield field, model[part.start : part.end].decode(errors="replace")


def _tensor(name: str, array: np.ndarray) -> bytes:
    sides = b"".join(_number(_SIDE, side) for side in array.shape)
    values = np.ascontiguousarray(array, "<f4").tobytes()
    return sides + _number(_DATA_TYPE, _FLOAT) + _message(_NAME, name.encode()) + _message(_RAW_DATA, values)


def _entry(key: str, value: str) -> bytes:
    return _message(_KEY, key.encode()) + _message(_VALUE, value.encode())


def _message(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | LENGTH) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3 | VARINT) + _varint(value)


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])
