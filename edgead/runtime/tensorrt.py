"""A TensorRT engine on the GPU: buffers and stream made once, and one CUDA graph a frame where that is possible."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from edgead.artifact.folder import ENGINES, Artifact, Graph
from edgead.components.options import Section
from edgead.errors import SettingsError
from edgead.runtime import device
from edgead.runtime.device import CudaGraph, Device, DeviceArray, open_device
from edgead.runtime.engine import PlantedEngineError, Wanted, find_engine, precision_of_engine
from edgead.runtime.engine_builder import EngineError, Log, shape_of
from edgead.runtime.engine_cache import CacheFile, cache_file
from edgead.runtime.flavour import Flavour
from edgead.runtime.registry import register

if TYPE_CHECKING:
    import tensorrt as trt

logger = logging.getLogger(__name__)

# What TensorRT does for the whole GPU when it reads an engine or lets one go would spoil what another thread captures.
_ONE_AT_A_TIME = threading.Lock()


class TensorRtRuntime:
    """The artifact's engine for this GPU, batch 1.

    Parameters
    ----------
    artifact : Artifact
    graph : Graph
        Which of the artifact's graphs the engine must have been built from.
    on_device : bool, optional
        Leave what patches are scored by on the GPU: `run` then gives a DeviceArray for it.

    Attributes
    ----------
    launches : str
        How a frame is launched: "as one CUDA graph", or why not.

    Raises
    ------
    SettingsError
        If TensorRT, a GPU, a library to reach it, or an engine for it is missing.
    EngineError
        If the engine that is there may not be used; the message ends with the command that builds it again.
    """

    def __init__(self, artifact: Artifact, graph: Graph, *, on_device: bool = False):
        spec = artifact.manifest.preprocessing
        self.input = np.zeros((1, *spec.image_size, spec.channels), spec.dtype)
        self._graph: CudaGraph | None = None
        self._device: Device = open_device()
        self._closed = False
        try:
            with _ONE_AT_A_TIME, self._device.current():
                wanted = find_engine(artifact, graph, self._device.gpu)
                self._log = Log(wanted.flavour.api)
                self._compiled = Compiled(cache_file("runtime", wanted.flavour, wanted.gpu))
                self._engine, self._context = _deserialise(wanted, self._log, self._compiled)
                self._allocate(artifact, wanted, on_device)
                self._graph = self._warm_up(wanted.flavour)
                self._compiled.keep()
        except BaseException:
            self.close()
            raise

    def _allocate(self, artifact: Artifact, wanted: Wanted, on_device: bool) -> None:
        """Make the buffers and give the context their addresses."""
        manifest, device, api = artifact.manifest, self._device, wanted.flavour.api
        shape: tuple[int, ...] = self.input.shape
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        types = {name: self._engine.get_tensor_dtype(name) for name in names}
        given = api.DataType.FLOAT if manifest.preprocessing.keeps_depth else api.DataType.UINT8
        expected = {manifest.input: given} | dict.fromkeys(manifest.outputs, api.DataType.FLOAT)
        if types != expected or not self._context.set_input_shape(manifest.input, api.Dims(shape)):
            raise EngineError(
                f"{wanted.path} does not take {manifest.input!r} of {shape} or does not give "
                f"{', '.join(manifest.outputs)} as the manifest says: write the graph again with `edgead export`"
            )
        self.input = device.pinned(shape, self.input.dtype.type)
        self._input_address = device.allocate(self.input.nbytes)
        self._set_address(manifest.input, self._input_address)
        self.outputs: dict[str, Any] = {}
        self._fetched: list[tuple[np.ndarray, int]] = []
        for name in manifest.outputs:
            shape = shape_of(self._context.get_tensor_shape(name))
            address = device.allocate(4 * int(np.prod(shape)))
            self._set_address(name, address)
            if on_device and name == manifest.output:
                self.outputs[name] = DeviceArray(address, shape, device)
            else:
                self.outputs[name] = device.pinned(shape, np.float32)
                self._fetched.append((self.outputs[name], address))

    def _set_address(self, name: str, address: int) -> None:
        if not self._context.set_tensor_address(name, address):
            raise EngineError(f"TensorRT takes no memory for {name!r}: {self._log.reason}")

    def _warm_up(self, flavour: Flavour) -> CudaGraph | None:
        """Run once, as the first run initialises what cannot be captured; then capture a frame."""
        if not self._enqueue():
            raise EngineError(f"{flavour} cannot run its engine on {self._device.gpu}: {self._log.reason}")
        self._device.wait()
        if flavour.targets:  # tensorrt_rtx makes a graph of its own, see _runtime_config
            context: Any = self._context  # a call that the types of `tensorrt` do not have
            graph, captured = None, context.is_stream_capturable(self._device.stream)
        else:
            # Twice, as what another library does to the whole GPU meanwhile spoils a capture.
            graph = self._device.capture(self._enqueue) or self._device.capture(self._enqueue)
            captured = graph is not None
        self.launches = "as one CUDA graph" if captured else "piece by piece: it cannot be captured in a CUDA graph"
        logger.info("a frame is launched %s", self.launches)
        return graph

    def _enqueue(self) -> bool:
        """Put a frame into the stream: image in, network, outputs out. False, and no outputs, without the network."""
        self._device.copy_in(self._input_address, self.input)
        if not self._context.execute_async_v3(self._device.stream):
            return False
        for host, address in self._fetched:
            self._device.copy_out(host, address)
        return True

    def run(self, images: np.ndarray) -> dict[str, Any]:
        """Run the network on one image; see `edgead.runtime.contract.Runtime.run`."""
        if self._closed:
            raise RuntimeError("this runtime was closed")
        if images is not self.input:
            np.copyto(self.input, images, casting="no")
        with self._device.current():
            if self._graph:
                self._graph.launch()
            elif not self._enqueue():
                raise RuntimeError(f"TensorRT could not run the network: {self._log.reason}")
            self._device.wait()
        return self.outputs

    def close(self) -> None:
        """Release the GPU; the runtime cannot be used afterwards."""
        if self._closed:
            return
        self._closed = True
        with _ONE_AT_A_TIME:
            with self._device.current():
                # In this order, as each needs the next; buffers belong to the device.
                if self._graph:
                    self._graph.close()
                self._graph = self._context = self._engine = None  # type: ignore[assignment]
            self._device.close()
            # After it, as a copy may still be in the stream. Who else holds pinned arrays keeps them.
            self.input, self.outputs, self._fetched = np.zeros_like(self.input), {}, []


class Compiled:
    """What `tensorrt_rtx` compiles while an engine is opened, kept for the next start; `tensorrt` has no such thing."""

    def __init__(self, file: CacheFile):
        self._file, self._known = file, b""
        self._cache: Any = None

    def add_to(self, config: Any) -> None:
        """Give it to a context's configuration."""
        self._cache, self._known = config.create_runtime_cache(), self._file.read()
        if self._known and not self._cache.deserialize(self._known):
            self._file.ignore("is of another driver or system")
        config.set_runtime_cache(self._cache)

    def keep(self) -> None:
        """Write what was compiled, if it is more than was read."""
        if self._cache is not None:
            content = bytes(self._cache.serialize())
            if content != self._known:
                self._file.keep(content)
            self._known = b""


def _deserialise(wanted: Wanted, log: Log, compiled: Compiled) -> tuple[trt.ICudaEngine, trt.IExecutionContext]:
    content = wanted.read()
    runtime: trt.Runtime = wanted.flavour.api.Runtime(log.logger)
    engine: trt.ICudaEngine | None = runtime.deserialize_cuda_engine(content)
    context = engine.create_execution_context(*_runtime_config(engine, wanted.flavour, compiled)) if engine else None
    if engine is None or context is None:
        raise EngineError(f"{wanted.path} cannot be used on {wanted.gpu}: {log.reason}")
    return engine, context


def _runtime_config(engine: trt.ICudaEngine, flavour: Flavour, compiled: Compiled) -> list[Any]:
    """What `tensorrt_rtx` makes its context with; older versions of `tensorrt` have no such thing."""
    if not flavour.targets:
        return []
    config: Any = engine.create_runtime_config()
    # Its kernels are compiled while it runs, so that it must choose itself what to capture and when.
    config.cuda_graph_strategy = flavour.api.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    compiled.add_to(config)
    return [config]


class TensorRtOptions(Section):
    """TensorRT on an NVIDIA GPU, by an engine that `edgead engine` has built."""


def has_engine(artifact: Artifact, graph: Graph) -> bool:
    """Whether there is an engine for the GPU that is here, stale or not; one that may be planted is none."""
    if not any((artifact.path / ENGINES).glob(f"{graph.precision}.*.engine")):
        return False
    try:
        wanted = find_engine(artifact, graph, device.find_gpu())
        wanted.check_planted()
        return wanted.path.exists()
    except PlantedEngineError as error:
        logger.warning("%s; the engine is taken for missing", error)
        return False
    except SettingsError:  # no TensorRT, or no GPU
        return False


def _open(
    artifact: Artifact, graph: Graph, options: TensorRtOptions, *, threads: int | None, on_device: bool
) -> TensorRtRuntime:
    return TensorRtRuntime(artifact, graph, on_device=on_device)


register("tensorrt", TensorRtOptions, _open, runs=has_engine, precision=precision_of_engine, preferred=True)
