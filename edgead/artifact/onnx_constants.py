"""ONNX files whose inputs become constants, without the package onnx: a device has none.

An ONNX file is one protobuf message (https://onnx.ai/onnx/repo-docs/IR.html, onnx.proto3): parts of it are left out,
and others put at its end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from edgead.artifact.protobuf import LENGTH, VARINT, Field, OnnxFormatError, fields

# Numbers of fields in onnx.proto3.
_GRAPH, _PROPERTIES = 7, 14  # of ModelProto
_INITIALIZER, _INPUT = 5, 11  # of GraphProto
_INPUT_NAME = 1  # of ValueInfoProto
_SIDE, _DATA_TYPE, _NAME, _RAW_DATA = 1, 2, 8, 9  # of TensorProto
_KEY, _VALUE = 1, 2  # of StringStringEntryProto
_FLOAT = 1


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
