"""OpenVINO runtime on the CPU, with fixed threads and one stream, or on another Intel device.

Tensors are bound once: nothing is allocated per frame.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from edgead import kernels
from edgead.artifact.folder import Artifact, ArtifactError, Graph
from edgead.components.options import Section
from edgead.errors import SettingsError
from edgead.process.installation import install_command
from edgead.runtime.contract import FIRST_RUN_S, Tensor, check_inputs, check_outputs
from edgead.runtime.registry import register
from edgead.runtime.workers import start_workers

CPU, AUTO = "CPU", "AUTO"
_DRIVERS = {
    "GPU": "install the driver of Intel's GPU (on Debian intel-opencl-icd), and let this user open /dev/dri",
    "NPU": "install Intel's NPU driver (https://github.com/intel/linux-npu-driver), and let this user open /dev/accel",
}


class OpenVinoRuntime:
    """Graph of an artifact on an OpenVINO device, batch 1.

    Raises SettingsError: OpenVINO is not installed, or does not find the device.
    Raises ArtifactError: the graph cannot be opened there.
    """

    def __init__(self, artifact: Artifact, graph: Graph, *, device: str = CPU, threads: int | None = None):
        try:
            import openvino
        except ImportError as error:
            raise SettingsError(
                f"OpenVINO does not load ({error}): install it with `{install_command('openvino')}`, or use "
                "the runtime onnxruntime"
            ) from error
        core = openvino.Core()
        _check_device(core, device)
        options = _options(core, device, graph.precision, threads or kernels.threads())
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
                lambda: _run_once(core.compile_model(model, device, options).create_infer_request(), given)
            )
        except RuntimeError as error:
            raise ArtifactError(f"{graph.path} cannot be opened by OpenVINO on {device}: {error}") from error
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


def _check_device(core: Any, device: str) -> None:
    found = core.available_devices
    kind = device.partition(".")[0]
    if device != AUTO and not any(name == device or name.partition(".")[0] == device for name in found):
        advice = _DRIVERS.get(kind, "take one of these")
        raise SettingsError(f"OpenVINO finds no {device} here, it finds {', '.join(found)}: {advice}")


def _options(core: Any, device: str, precision: str, threads: int) -> dict[str, Any]:
    """Options to compile a network: one stream, and at least the graph's precision."""
    options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
    if device.startswith("NPU"):  # it has only half floats; the golden images test whether they suffice
        return options
    half_floats = device != CPU or "FP16" in core.get_property(CPU, "OPTIMIZATION_CAPABILITIES")
    # By default OpenVINO computes fp32 graphs with bfloat16 or half floats if the device has them, and fp16 graphs with
    # bfloat16, whose error is eight times as large, if the device has only that.
    options["INFERENCE_PRECISION_HINT"] = "f16" if precision == "fp16" and half_floats else "f32"
    if device != CPU:
        return options
    # Pinned threads would keep the scoring kernels, which run between two inferences, off these cores.
    return {**options, "NUM_STREAMS": "1", "INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}


def _tensor(port: Any) -> Tensor:
    dtype = port.element_type.get_type_name()
    rank = port.partial_shape.rank
    sides = port.partial_shape if rank.is_static else ()
    shape = [side.get_length() if side.is_static else "batch" for side in sides]
    return Tensor(port.any_name, {"u8": "uint8", "f32": "float32"}.get(dtype, dtype), shape)


def _run_once(request: Any, inputs: Sequence[Any]) -> Any:
    """Run once to start the threads; a network that does not end in time is abandoned."""
    for index, tensor in enumerate(inputs):
        request.set_input_tensor(index, tensor)
    request.start_async()
    if not request.wait_for(round(FIRST_RUN_S * 1e3)):
        # The engine cannot cancel a running inference, and the request's destructor waits for its end while holding the
        # GIL: all pipelines of a daemon would stop. So a thread keeps the request and its arrays alive until
        # then.
        threading.Thread(target=_wait, args=(request, inputs), daemon=True).start()
        raise RuntimeError(f"it takes more than {FIRST_RUN_S:g} s for an image")
    return request


def _wait(request: Any, _inputs: Sequence[Any]) -> None:
    with suppress(RuntimeError):  # its result is not needed
        request.wait()


class OpenVinoOptions(Section):
    """OpenVINO on the CPU or another device of Intel's: `pip install 'edgead[openvino]'`."""

    device: Annotated[
        str,
        Field(
            pattern=r"^(CPU|AUTO|(GPU|NPU)(\.\d{1,2})?)$",
            description="CPU, GPU, NPU, one of several as GPU.1, or AUTO, where OpenVINO chooses.",
        ),
    ] = CPU


def _open(
    artifact: Artifact, graph: Graph, options: OpenVinoOptions, *, threads: int | None, on_device: bool
) -> OpenVinoRuntime:
    return OpenVinoRuntime(artifact, graph, device=options.device, threads=threads)


register("openvino", OpenVinoOptions, _open, runs=lambda artifact, graph: find_spec("openvino") is not None)
