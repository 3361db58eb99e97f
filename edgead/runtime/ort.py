"""ONNX Runtime on the CPU, with fixed threads, or with another execution provider.

Buffers are bound once: nothing is allocated per frame.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import numpy as np
from pydantic import Field

from edgead import kernels
from edgead.artifact.folder import Artifact, ArtifactError, Graph
from edgead.components.options import Section
from edgead.errors import SettingsError
from edgead.runtime.contract import FIRST_RUN_S, Tensor, check_inputs, check_outputs
from edgead.runtime.registry import register
from edgead.runtime.workers import start_workers

if TYPE_CHECKING:
    import onnxruntime

# Disabled optimizers: this one quantises the layers that an int8 graph keeps in float.
WITHOUT = ["WeightBiasQuantization"]


class Provider(NamedTuple):
    """Execution provider of ONNX Runtime: its name there, the package to install, and its options."""

    name: str
    comes_with: str
    options: Mapping[str, str] = MappingProxyType({})


ProviderName = Literal["cpu", "cuda", "tensorrt", "coreml", "qnn", "directml"]
# The packages contain the same files, so that only one can be installed.
_PACKAGE = "`pip uninstall onnxruntime`, then `pip install {}`"
# https://onnxruntime.ai/docs/execution-providers. By default CUDA rounds factors to TF32.
PROVIDERS: dict[str, Provider] = {
    "cpu": Provider("CPUExecutionProvider", ""),
    "cuda": Provider("CUDAExecutionProvider", _PACKAGE.format("onnxruntime-gpu"), {"use_tf32": "0"}),
    "tensorrt": Provider("TensorrtExecutionProvider", _PACKAGE.format("onnxruntime-gpu")),
    "coreml": Provider("CoreMLExecutionProvider", "macOS has it"),
    "qnn": Provider("QNNExecutionProvider", _PACKAGE.format("onnxruntime-qnn")),
    "directml": Provider("DmlExecutionProvider", f"on Windows {_PACKAGE.format('onnxruntime-directml')}"),
}


class OrtRuntime:
    """Graph of an artifact on an execution provider of ONNX Runtime, batch 1.

    Nodes that the provider does not support run on the CPU.

    Raises SettingsError: this installation of ONNX Runtime has no such provider, or the provider does not load.
    Raises ArtifactError: the graph cannot be opened.
    """

    def __init__(self, artifact: Artifact, graph: Graph, *, provider: str = "cpu", threads: int | None = None):
        import onnxruntime  # takes a fifth of a second, so it is imported on use

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or kernels.threads()
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        options.add_free_dimension_override_by_name("batch", 1)
        # Workers that spin after a run would take cores from the scoring kernels.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        # Otherwise it takes a file for its own format if four bytes in it match.
        options.add_session_config_entry("session.load_model_format", "ONNX")
        wanted = PROVIDERS[provider]
        _check_provider(provider, onnxruntime.get_available_providers())
        options.enable_mem_pattern = provider != "directml"  # DirectML refuses it
        content = graph.read()
        try:
            self._session, self._workers = start_workers(
                lambda: onnxruntime.InferenceSession(
                    content, options, providers=[(wanted.name, dict(wanted.options))], disabled_optimizers=WITHOUT
                )
            )
        except Exception as error:  # noqa: BLE001  ONNX Runtime's errors share no base of their own
            raise ArtifactError(f"{graph.path} cannot be opened by ONNX Runtime: {error}") from error
        if self._session.get_providers()[0] != wanted.name:  # it has fallen back to the CPU
            raise SettingsError(
                f"ONNX Runtime cannot load its provider {provider}: `edgead doctor` says what works here; install the "
                "driver and the libraries that it needs, or take cpu"
            )
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        self._arrays = check_inputs(graph, artifact.manifest, [_tensor(node) for node in inputs])
        check_outputs(graph.path, artifact.manifest, [_tensor(node) for node in outputs])
        spec = artifact.manifest.preprocessing
        self.input = np.zeros((1, *spec.image_size, spec.channels), spec.dtype)
        self.outputs = {output.name: np.zeros([1, *output.shape[1:]], np.float32) for output in outputs}
        self._binding = self._session.io_binding()
        for name, array in {inputs[0].name: self.input, **self._arrays}.items():
            self._binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        for name, array in self.outputs.items():
            self._binding.bind_output(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
        try:
            self._first_run()
        except Exception as error:  # noqa: BLE001  as above
            raise ArtifactError(f"{graph.path} cannot be run by ONNX Runtime: {error}") from error

    def _first_run(self) -> None:
        """Run once, to allocate memory before the first frame; a network that does not end in time is terminated."""
        import onnxruntime

        options = onnxruntime.RunOptions()
        late = threading.Timer(FIRST_RUN_S, setattr, (options, "terminate", True))
        late.start()
        try:
            self._session.run_with_iobinding(self._binding, options)
        except Exception as error:
            if options.terminate:
                raise RuntimeError(f"it takes more than {FIRST_RUN_S:g} s for an image") from error
            raise
        finally:
            late.cancel()

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Run the network on one image; see `edgead.runtime.contract.Runtime.run`."""
        if images is not self.input:
            np.copyto(self.input, images, casting="no")
        self._workers.follow_caller()
        self._session.run_with_iobinding(self._binding)
        return self.outputs

    def close(self) -> None:
        """Release the session's memory."""
        self._binding = self._session = None


def _tensor(node: onnxruntime.NodeArg) -> Tensor:
    dtype = node.type.removeprefix("tensor(").removesuffix(")")
    return Tensor(node.name, {"float": "float32"}.get(dtype, dtype), node.shape)


def _check_provider(provider: str, available: list[str]) -> None:
    wanted = PROVIDERS[provider]
    if wanted.name not in available:
        here = ", ".join(name for name, known in PROVIDERS.items() if known.name in available)
        raise SettingsError(f"this ONNX Runtime has no provider {provider}, it has {here}: {wanted.comes_with}")


class OrtOptions(Section):
    """ONNX Runtime; always installed for the CPU."""

    provider: Annotated[
        ProviderName, Field(description="Kind of device; all but cpu need another package of ONNX Runtime.")
    ] = "cpu"


def _open(artifact: Artifact, graph: Graph, options: OrtOptions, *, threads: int | None, on_device: bool) -> OrtRuntime:
    return OrtRuntime(artifact, graph, provider=options.provider, threads=threads)


register("onnxruntime", OrtOptions, _open, runs=lambda artifact, graph: graph.constants is None)
