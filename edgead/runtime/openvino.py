"""OpenVINO with fixed threads, one stream, and tensors that are bound once: nothing is allocated per frame."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from edgead import kernels
from edgead.artifact.folder import Artifact, ArtifactError, Graph
from edgead.components.options import Section
from edgead.errors import SettingsError
from edgead.process.installation import install_command
from edgead.runtime.contract import FIRST_RUN_S, Tensor, check_inputs, check_outputs
from edgead.runtime.registry import register
from edgead.runtime.workers import start_workers


class OpenVinoRuntime:
    """One of the artifact's graphs on OpenVINO's CPU device, batch 1."""

    def __init__(self, artifact: Artifact, graph: Graph, *, threads: int | None = None):
        try:
            import openvino
        except ImportError as error:
            raise SettingsError(
                f"OpenVINO does not load ({error}): install it with `{install_command('openvino')}`, or use "
                "the runtime onnxruntime"
            ) from error
        core = openvino.Core()
        half_floats = "FP16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        options = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": threads or kernels.threads(),
            # Where the CPU has bfloat16 or half floats, OpenVINO computes fp32 graphs with them unless asked not to;
            # and half floats with bfloat16, whose error is eight times as large, where it has that alone.
            "INFERENCE_PRECISION_HINT": "f16" if graph.precision == "fp16" and half_floats else "f32",
            # Pinned threads would keep the kernels, which run between two inferences, from the same cores.
            "ENABLE_CPU_PINNING": False,
        }
        manifest = artifact.manifest
        height, width = manifest.preprocessing.image_size
        shape = (1, height, width, manifest.preprocessing.channels)
        self.input = np.zeros(shape, manifest.preprocessing.dtype)
        files = (graph.read(),) if graph.constants is None else graph.read_ir()
        try:
            model = core.read_model(*files)
            self._arrays = check_inputs(graph, manifest, [_tensor(port) for port in model.inputs])
            model.reshape({manifest.input: list(shape)})
            check_outputs(graph.path, manifest, [_tensor(port) for port in model.outputs])
            given = [openvino.Tensor(array, shared_memory=True) for array in (self.input, *self._arrays.values())]
            self._request: Any
            self._request, self._workers = start_workers(
                lambda: _run_once(core.compile_model(model, "CPU", options).create_infer_request(), given)
            )
        except RuntimeError as error:
            raise ArtifactError(f"{graph.path} cannot be opened by OpenVINO: {error}") from error
        self.outputs: dict[str, np.ndarray] = {}
        for index, name in enumerate(manifest.outputs):
            self.outputs[name] = np.zeros(list(model.outputs[index].shape), np.float32)
            self._request.set_output_tensor(index, openvino.Tensor(self.outputs[name], shared_memory=True))

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run the network on one image; see `edgead.runtime.contract.Runtime.run`."""
        if images is not self.input:
            np.copyto(self.input, images, casting="no")
        self._workers.follow_caller()
        self._request.infer()
        return self.outputs

    def close(self) -> None:
        """Release the engine's memory."""
        self._request = None


def _tensor(port: Any) -> Tensor:
    dtype = port.element_type.get_type_name()
    rank = port.partial_shape.rank
    sides = port.partial_shape if rank.is_static else ()
    shape = [side.get_length() if side.is_static else "batch" for side in sides]
    return Tensor(port.any_name, {"u8": "uint8", "f32": "float32"}.get(dtype, dtype), shape)


def _run_once(request: Any, inputs: Sequence[Any]) -> Any:
    """Run once, as threads start with the first inference; a network that does not end is ended."""
    for index, tensor in enumerate(inputs):
        request.set_input_tensor(index, tensor)
    request.start_async()
    if not request.wait_for(round(FIRST_RUN_S * 1e3)):
        request.cancel()
        raise RuntimeError(f"it takes more than {FIRST_RUN_S:g} s for an image")
    return request


class OpenVinoOptions(Section):
    """OpenVINO on the CPU: `pip install 'edgead[openvino]'`."""


def _open(
    artifact: Artifact, graph: Graph, options: OpenVinoOptions, *, threads: int | None, on_device: bool
) -> OpenVinoRuntime:
    return OpenVinoRuntime(artifact, graph, threads=threads)


register("openvino", OpenVinoOptions, _open, runs=lambda artifact, graph: find_spec("openvino") is not None)
