"""Builder of ONNX graphs: each call adds a node and returns the name of its value."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

PREFIX = "edgead."

Input = str | np.ndarray | np.generic
"""Input of a node: the name of a value, or a constant."""


class Nodes:
    """Builder of nodes and constants; a node's inputs are names of values, or arrays, which become constants.

    `prefix`: prefix of the names of all values.
    """

    def __init__(self, prefix: str = PREFIX) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._prefix, self._named = prefix, 0

    def __call__(self, operation: str, *inputs: Input, name: str | None = None, **attributes: Any) -> str:
        """Add a node with one output, named `name` if given; return its name."""
        return self.several(operation, *inputs, names=[name or self._new(operation)], **attributes)[0]

    def several(
        self,
        operation: str,
        *inputs: Input,
        count: int = 0,
        names: list[str] | None = None,
        **attributes: Any,
    ) -> list[str]:
        """Add a node with several outputs; return their names."""
        values = names or [self._new(operation) for _ in range(count)]
        given = [each if isinstance(each, str) else self.constant(each) for each in inputs]
        self.nodes.append(onnx.helper.make_node(operation, given, values, name=values[0], **attributes))
        return values

    def reshape(self, value: str, *sides: int) -> str:
        """Reshape a value."""
        return self("Reshape", value, np.array(sides, np.int64))

    def floor_of(self, value: str, divisor: int) -> str:
        """Divide integers by a power of two and round down, exactly in float32."""
        return self("Floor", self("Mul", value, np.float32(1 / divisor)))

    def constant(self, array: np.ndarray | np.generic) -> str:
        """Add a constant for use by several nodes; return its name."""
        name = self._new("constant")
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def _new(self, what: str) -> str:
        self._named += 1
        return f"{self._prefix}{what}.{self._named}"
