"""Constants and properties of an ONNX file, changed without the package onnx, which a device does not have.

An ONNX file is one protobuf message (https://onnx.ai/onnx/repo-docs/IR.html, onnx.proto3). A tensor that is stored as
raw bytes keeps its length when its values change, so they are written over in place; properties stand at the top level,
where a message may be taken out and others put at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from edgead.artifact.protobuf import LENGTH, Field, OnnxFormatError, fields, read_varint

# Numbers of fields in onnx.proto3.
_GRAPH, _PROPERTIES = 7, 14  # of ModelProto
_INITIALIZER = 5  # of GraphProto
_DATA_TYPE, _NAME, _RAW_DATA = 2, 8, 9  # of TensorProto
_KEY, _VALUE = 1, 2  # of StringStringEntryProto
_FLOAT = 1


def read_constants(model: bytes) -> dict[str, np.ndarray]:
    """Read all float32 constants of a graph, flat."""
    found = {}
    for name, raw in _float_tensors(model):
        found[name] = np.frombuffer(model, "<f4", (raw.end - raw.start) // 4, raw.start).copy()
    return found


def with_constants(model: bytes, values: Mapping[str, np.ndarray]) -> bytes:
    """Give float32 constants of a graph other values of the same number.

    Raises
    ------
    OnnxFormatError
        If the graph has no such constant, or one of another size.
    """
    places = dict(_float_tensors(model))
    changed = bytearray(model)
    for name, value in values.items():
        content = np.ascontiguousarray(value, "<f4").tobytes()
        place = places.get(name)
        if place is None or place.end - place.start != len(content):
            size = "none" if place is None else f"one of {(place.end - place.start) // 4} numbers"
            raise OnnxFormatError(f"the graph needs a constant {name} of {value.size} float32 numbers, it has {size}")
        changed[place.start : place.end] = content
    return bytes(changed)


def with_properties(model: bytes, properties: Mapping[str, str]) -> bytes:
    """Replace the properties (metadata_props) of a model by others."""
    kept = [model[field.at : field.end] for field in fields(model) if field.number != _PROPERTIES]
    return b"".join([*kept, *(_message(_PROPERTIES, _entry(*item)) for item in properties.items())])


def _entry(key: str, value: str) -> bytes:
    return _message(_KEY, key.encode()) + _message(_VALUE, value.encode())


def _message(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | LENGTH) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


def _float_tensors(model: bytes) -> Iterator[tuple[str, Field]]:
    """Yield names of float32 constants and where their bytes are."""
    for graph in fields(model):
        if graph.number != _GRAPH:
            continue
        for tensor in fields(model, graph.start, graph.end):
            if tensor.number != _INITIALIZER:
                continue
            parts = {field.number: field for field in fields(model, tensor.start, tensor.end)}
            kind = parts.get(_DATA_TYPE)
            if kind and read_varint(model, kind.start)[0] == _FLOAT and _NAME in parts and _RAW_DATA in parts:
                name = parts[_NAME]
                yield model[name.start : name.end].decode(), parts[_RAW_DATA]
