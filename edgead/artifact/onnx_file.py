"""Checks and edits of ONNX files without the package onnx, which devices do not have.

An ONNX file is one protobuf message (https://onnx.ai/onnx/repo-docs/IR.html, onnx.proto3): an edit leaves fields out
and appends others. A graph must terminate and be complete. Nodes that contain graphs (Loop, Scan, If) may run forever,
and OpenVINO cannot be stopped within one. Functions that call functions can grow without bound when an engine
expands them. Values in other files are covered by no hash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from edgead.errors import EdgeadError

VARINT, LENGTH = 0, 2
_FIXED64, _FIXED32 = 1, 5
_MAX_FIELDS = 100_000  # a quantised network of a thousand nodes has a quarter of this
# Fields that are messages worth walking into, by kind of message and number in onnx.proto3.
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
_INITIALIZER, _INPUT, _OUTPUT = 5, 11, 12  # of GraphProto
_VALUE_NAME, _VALUE_TYPE, _TENSOR_TYPE, _ELEMENT, _SHAPE, _DIMENSION, _FREE_SIDE = (
    1,
    2,
    1,
    1,
    2,
    1,
    2,
)  # of ValueInfoProto
_SIDE, _DATA_TYPE, _NAME, _RAW_DATA = 1, 2, 8, 9  # of TensorProto
_KEY, _VALUE = 1, 2  # of StringStringEntryProto
_FLOAT, _ELEMENTS = 1, {"float32": 1, "uint8": 2}
BATCH = "batch"


class OnnxFormatError(EdgeadError):
    """File that is no ONNX file as edgead writes it."""


class Field(NamedTuple):
    """Protobuf field: its number, and the offsets of its tag, its content and its end in the file."""

    number: int
    wire_type: int
    at: int
    start: int
    end: int


def fields(message: bytes, start: int = 0, end: int | None = None) -> Iterator[Field]:
    """Yield the fields of the protobuf message between two offsets.

    Raises OnnxFormatError: the bytes are no message, or it is cut off.
    """
    at, end = start, len(message) if end is None else end
    while at < end:
        tag, content = read_varint(message, at)
        wire_type = tag & 7
        if tag > 0xFFFFFFFF:  # parsers differ in how they read such a field
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
    """Read a varint; return it and the offset of the next byte."""
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
    """Graph that may run forever, or is not complete in its file; the message says why."""


def check_closed(model: bytes) -> None:
    """Raise OpenGraphError unless an ONNX graph is complete and sure to terminate; OnnxFormatError if it is no ONNX."""
    for seen, (message, field) in enumerate(_walk(model, "model", 0, len(model))):
        reason = _REFUSED.get((message, field.number))
        if reason and not (field.number == _DATA_LOCATION and read_varint(model, field.start)[0] == 0):
            raise OpenGraphError(reason)
        if seen > _MAX_FIELDS:
            raise OpenGraphError(f"it has more than {_MAX_FIELDS} parts")


def _walk(model: bytes, message: str, start: int, end: int) -> Iterator[tuple[str, Field]]:
    """Yield every field with the kind of message that contains it."""
    for field in fields(model, start, end):
        yield message, field
        within = _WITHIN[message].get(field.number)
        if within:
            yield from _walk(model, within, field.start, field.end)


def with_constants(model: bytes, arrays: Mapping[str, np.ndarray]) -> bytes:
    """Turn float32 inputs of a graph into constants with the given values.

    TensorRT needs this: its importer wants the weights of a convolution when it builds the engine. So does the
    quantisation to other precisions, which looks for constants.

    Raises OnnxFormatError: the bytes are no ONNX file, or the graph has no such input.
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
    """Replace all properties (metadata_props) of a model."""
    kept = [model[field.at : field.end] for field in fields(model) if field.number != _PROPERTIES]
    return b"".join([*kept, *(_message(_PROPERTIES, _entry(*item)) for item in properties.items())])


def with_sides(model: bytes, image: Sequence[int], dtype: str, features: Sequence[int]) -> bytes:
    """Fix the shapes of a graph's first input and of its only output, except the batch.

    `image`, `features`: shapes of the input and of the output, without the batch.
    `dtype` ({"uint8", "float32"}): data type of the input.
    """

    def fixed(graph: Field) -> Iterator[bytes]:
        first = True
        for field in fields(model, graph.start, graph.end):
            if field.number == _OUTPUT or (field.number == _INPUT and first):
                sides, element = (features, "float32") if field.number == _OUTPUT else (image, dtype)
                first = first and field.number != _INPUT
                yield _message(field.number, _value(_name(model, field), element, sides))
            else:
                yield model[field.at : field.end]

    return _with_graph(model, fixed)


def with_initializers(model: bytes, other: bytes, prefix: str) -> bytes:
    """Copy the initializers with a name prefix from `other` into a graph that has none of them."""
    own = {name for _, name in _initializers(model)}
    held = (
        other[field.at : field.end]
        for field, name in _initializers(other)
        if name.startswith(prefix) and name not in own
    )
    more = b"".join(held)
    return _with_graph(model, lambda graph: [model[graph.start : graph.end], more])


def _with_graph(model: bytes, made: Callable[[Field], Iterable[bytes]]) -> bytes:
    """Replace the content of a model's graph by the bytes that `made` returns for it."""
    return b"".join(
        _message(_GRAPH, b"".join(made(part))) if part.number == _GRAPH else model[part.at : part.end]
        for part in fields(model)
    )


def _initializers(model: bytes) -> Iterator[tuple[Field, str]]:
    """Yield the initializers of a model's graph with their names."""
    for part in fields(model):
        if part.number == _GRAPH:
            for field in fields(model, part.start, part.end):
                if field.number == _INITIALIZER:
                    yield field, _name(model, field, _NAME)


def _name(model: bytes, message: Field, number: int = _VALUE_NAME) -> str:
    """Read the name field of a message."""
    part = next(part for part in fields(model, message.start, message.end) if part.number == number)
    return model[part.start : part.end].decode(errors="replace")


def _value(name: str, element: str, sides: Sequence[int]) -> bytes:
    """Serialise the ValueInfoProto of a tensor with a free batch axis."""
    batch = _message(_DIMENSION, _message(_FREE_SIDE, BATCH.encode()))
    shape = batch + b"".join(_message(_DIMENSION, _number(_SIDE, side)) for side in sides)
    tensor = _number(_ELEMENT, _ELEMENTS[element]) + _message(_SHAPE, shape)
    return _message(_VALUE_NAME, name.encode()) + _message(_VALUE_TYPE, _message(_TENSOR_TYPE, tensor))


def _inputs(model: bytes, graph: Field) -> Iterator[tuple[Field, str]]:
    """Yield the inputs of a graph with their names."""
    for field in fields(model, graph.start, graph.end):
        if field.number == _INPUT:
            for part in fields(model, field.start, field.end):
                if part.number == _VALUE_NAME:
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
