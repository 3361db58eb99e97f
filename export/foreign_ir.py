"""Wrapping of OpenVINO IRs from other tools; see `edgead.export.foreign`. The result is an IR too."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from edgead.export.foreign import (
    CHANNELS,
    MAX_WHITE,
    OF_ANOMALIB,
    PATCH_SCORES,
    ForeignGraph,
    Input,
    Outputs,
    Port,
    Run,
    read_model_file,
)

from edgead.artifact.ir_file import OpenIrError, check_ir
from edgead.artifact.manifest import GraphRecord, Manifest
from edgead.errors import SettingsError
from edgead.heads.patches import GRAPH_SCORE
from edgead.process.installation import install_command

_INFO = "rt_info/model_info/*"
_TYPES = {"u8": "uint8", "f32": "float32", "f16": "float16", "f64": "float64"}


class IrGraph(ForeignGraph):
    """OpenVINO IR: an XML file, and beside it a file of constants of the same name with the suffix .bin.

    Raises SettingsError: the file is no IR, may run forever, or OpenVINO is not installed.
    """

    format = "OpenVINO IR"
    record = GraphRecord(file="model.xml", constants="model.bin")

    def __init__(self, path: Path):
        try:
            import openvino
        except ImportError as error:
            raise SettingsError(
                f"{path} needs OpenVINO, which does not load ({error}): install it with "
                f"`{install_command('openvino')}`, or export the model as ONNX"
            ) from error
        self.path, self._openvino = path, openvino
        values = path.with_suffix(".bin")
        try:
            document, constants = read_model_file(path), read_model_file(values)
            check_ir(document)
            self._model = openvino.Core().read_model(document, constants)
        except (OpenIrError, RuntimeError) as error:
            raise SettingsError(
                f"{path} with {values.name} is no OpenVINO IR that can be used ({error}): copy both files again, or "
                "export the model again"
            ) from error
        root = ElementTree.fromstring(document)
        self.properties = {info.tag: info.get("value", "") for info in root.findall(_INFO)}
        version = root.find("rt_info/*[@name='OpenVINO Runtime']")
        self.producer = "" if version is None else f"OpenVINO {version.get('value', '').partition('-')[0]}"
        self.inputs = [_port(port) for port in self._model.inputs]
        self.output_names = [_name(port) for port in self._model.outputs]

    def open(self, given: Input, size: tuple[int, int]) -> Run:
        """Open the original graph on the CPU in float32; see `ForeignGraph.open`."""
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        try:
            self._model.reshape(list(given.sides(size)))
            request = self._openvino.Core().compile_model(self._model, "CPU", options).create_infer_request()
        except RuntimeError as error:
            raise SettingsError(
                f"{self.path} cannot be opened for {size[0]} x {size[1]} pixels: {error}; name another --size"
            ) from error

        def run(made: np.ndarray) -> dict[str, np.ndarray]:
            request.infer([made])
            return {
                name: given.first(np.array(request.get_output_tensor(number).data))
                for number, name in enumerate(self.output_names)
            }

        return run

    def write(self, draft: Path, manifest: Manifest, given: Input, outputs: Outputs) -> None:
        """Write the wrapped IR; see `ForeignGraph.write`."""
        wrapped = self._wrapped(manifest, given, outputs)
        for name, value in manifest.graph_properties.items():
            wrapped.set_rt_info(value, name.split("."))
        assert self.record.constants is not None
        self._openvino.serialize(wrapped, draft / self.record.file, draft / self.record.constants)

    def _wrapped(self, manifest: Manifest, given: Input, outputs: Outputs) -> Any:
        operators = self._openvino.opset13
        model = self._model.clone()
        image = operators.parameter([1, *manifest.preprocessing.image_size, CHANNELS], np.uint8, name=manifest.input)
        image.output(0).set_names({manifest.input})
        made = _before(operators, image, given)
        made = operators.concat([made] * given.batch, 0) if given.batch > 1 else made
        model.inputs[0].replace(made.output(0))
        ends = {PATCH_SCORES: (outputs.map or outputs.score, [1, *outputs.grid])}
        if outputs.both:
            ends[GRAPH_SCORE] = (outputs.score, [1])
        by_name = dict(zip(self.output_names, model.outputs, strict=True))
        results = []
        for name, (source, shape) in ends.items():
            taken = by_name[source or ""].node.input_value(0)
            if given.batch > 1:
                taken = operators.gather(taken, np.array([0], np.int64), np.array(0, np.int64))
            last = operators.reshape(operators.convert(taken, "f32"), np.array(shape, np.int64), False)
            last.output(0).set_names({name})
            results.append(operators.result(last))
        return self._openvino.Model(results, [image], "imported")


def _before(operators: Any, image: Any, given: Input) -> Any:
    """Make the operators that convert a uint8 RGB image to a graph's input, in the order of `Input.make`."""
    last = image
    if given.colour == "bgr":
        last = operators.gather(last, np.array([2, 1, 0], np.int64), np.array(3, np.int64))
    if given.port.dtype != "uint8":
        last = operators.convert(last, "f32")
    if given.layout == "nchw":
        last = operators.transpose(last, np.array([0, 3, 1, 2], np.int64))
    if given.port.dtype == "uint8":
        return last
    per_channel = (1, 1, 1, CHANNELS) if given.layout == "nhwc" else (1, CHANNELS, 1, 1)
    if given.white != MAX_WHITE:
        last = operators.divide(last, np.array(MAX_WHITE / given.white, np.float32))
    if given.mean:
        last = operators.subtract(last, np.array(given.mean, np.float32).reshape(per_channel))
    if given.std:
        last = operators.divide(last, np.array(given.std, np.float32).reshape(per_channel))
    kinds = {dtype: kind for kind, dtype in _TYPES.items()}
    return last if given.port.dtype == "float32" else operators.convert(last, kinds[given.port.dtype])


def _name(port: Any) -> str:
    """Return the name of an input or output; of several names of one tensor, anomalib's, or the shortest."""
    names = sorted(port.names, key=lambda name: (name not in OF_ANOMALIB, len(name), name))
    return names[0] if names else str(port.node.friendly_name)


def _port(port: Any) -> Port:
    kind = port.element_type.get_type_name()
    sides = port.partial_shape if port.partial_shape.rank.is_static else ()
    shape = tuple(side.get_length() if side.is_static else None for side in sides)
    return Port(_name(port), _TYPES.get(kind, kind), shape)
