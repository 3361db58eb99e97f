"""Check of OpenVINO IR files, without OpenVINO, before an engine loads one.

An IR is an XML file of layers (https://docs.openvino.ai, "OpenVINO IR format") and a file of constants, to which it
refers by offset. Layers that contain graphs (Loop, TensorIterator, If) are refused: they may run forever, and OpenVINO
cannot be stopped within one. A document type is refused too: with it, a short file can expand to a very long one.
"""

from __future__ import annotations

from xml.parsers import expat

from edgead.errors import EdgeadError

_MAX_ELEMENTS = 1_000_000  # a network of a thousand layers has a fiftieth of them
_MAX_DEPTH = 64
_WITHIN = {"Loop", "TensorIterator", "If"}


class OpenIrError(EdgeadError):
    """IR that may run forever, or a file that is no IR; the message says why."""


def check_ir(document: bytes) -> None:
    """Raise OpenIrError unless an XML file is an IR that is sure to terminate."""
    depth = seen = 0
    root = ""

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth, seen, root
        root = root or name
        depth, seen = depth + 1, seen + 1
        if depth > _MAX_DEPTH or seen > _MAX_ELEMENTS:
            raise OpenIrError(f"it has more than {_MAX_ELEMENTS} parts, or {_MAX_DEPTH} within each other")
        if name == "layer" and attributes.get("type") in _WITHIN:
            raise OpenIrError(
                f"a layer of it has a graph of its own (Loop, TensorIterator, If), which need not end: "
                f"{attributes.get('name', '')!r}"
            )

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1

    def document_type(*_: object) -> None:
        raise OpenIrError("it declares a document type, as no IR does")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.StartDoctypeDeclHandler = document_type
    try:
        parser.Parse(document, True)
    except expat.ExpatError as error:
        raise OpenIrError(f"it is no XML ({error})") from error
    if root != "net":
        raise OpenIrError(f"it is no OpenVINO IR: its first element is {root!r}")
