"""A TensorRT engine on the GPU: one stream from the image to the map, as one CUDA graph where that is possible.

Nothing is allocated for a frame, and it is waited for once. What the first frame of a shape needs is made with it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from edgead.artifact.folder import ENGINES, Artifact, Graph
from edgead.artifact.inputs import Preprocessing
from edgead.artifact.preprocess import Sides, looked_at, prepared, preprocess
from edgead.components.options import Section
from edgead.errors import SettingsError
from edgead.kernels.backend import cuda_problem
from edgead.runtime import device
from edgead.runtime.device import CudaGraph, Device, DeviceArray, open_device
from edgead.runtime.engine import PlantedEngineError, Wanted, find_engine, precision_of_engine
from edgead.runtime.engine_builder import EngineError, Log, shape_of
from edgead.runtime.engine_cache import CacheFile, cache_file
from edgead.runtime.flavour import Flavour
from edgead.runtime.frames_on_gpu import FramesOnGpu
from edgead.runtime.registry import register

if TYPE_CHECKING:
    import tensorrt as trt

logger = logging.getLogger(__name__)

# What TensorRT does for the whole GPU when it reads an engine or lets one go would spoil what another thread captures.
_ONE_AT_A_TIME = threading.Lock()
# Shapes of frames that the GPU has memory for; the CPU prepares those of others.
_MOST_SHAPES = 4


@dataclass(slots=True)
class _Way:
    """One way of a frame into the network: what puts it into the stream, and the graph of all that follows."""

    enqueue: Callable[[], None]
    graph: CudaGraph | None = None
    frames: FramesOnGpu | None = None


class TensorRtRuntime:
    """The artifact's engine for this GPU, batch 1.

    Parameters
    ----------
    artifact : Artifact
    graph : Graph
        Which of the artifact's graphs the engine must have been built from.
    on_device : bool, optional
        Leave what patches are scored by on the GPU: `run` then gives a DeviceArray for it.

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
        self._device: Device = open_device()
        self._closed = False
        self._plain = self._next = _Way(self._copy_input)
        self._ways: dict[tuple[tuple[int, int], tuple[int, int], Sides], _Way | None] = {}
        self._behind: list[Callable[[], None]] = []
        try:
            with _ONE_AT_A_TIME, self._device.current():
                wanted = find_engine(artifact, graph, self._device.gpu)
                self._flavour = wanted.flavour
                self._log = Log(wanted.flavour.api)
                self._compiled = Compiled(cache_file("runtime", wanted.flavour, wanted.gpu))
                self._engine, self._context = _deserialise(wanted, self._log, self._compiled)
                self._allocate(artifact, wanted, on_device)
                self._warm_up()
                self._compiled.keep()
            self._prepares = not spec.keeps_depth and not cuda_problem()
        except BaseException:
            self.close()
            raise

    @property
    def launches(self) -> str:
        """How a frame is launched, and what of it: "as one CUDA graph from the image to the map"."""
        on_gpu = next((way for way in self._ways.values() if way), None)
        where = (
            f"from {'the image' if on_gpu else 'the input of the network'} to "
            f"{'the map' if self._behind else 'its outputs'}"
        )
        if (on_gpu or self._plain).graph:
            return f"as one CUDA graph {where}"
        if self._of_rtx:
            return f"piece by piece {where}, the network as one CUDA graph"
        return f"piece by piece {where}: it cannot be captured in a CUDA graph"

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
                self.outputs[name] = DeviceArray(address, shape, device, self._then)
            else:
                self.outputs[name] = device.pinned(shape, np.float32)
                self._fetched.append((self.outputs[name], address))

    def _set_address(self, name: str, address: int) -> None:
        if not self._context.set_tensor_address(name, address):
            raise EngineError(f"TensorRT takes no memory for {name!r}: {self._log.reason}")

    def _then(self, work: Callable[[], None]) -> None:
        """See `DeviceArray.then`."""
        self._behind.append(work)
        with _ONE_AT_A_TIME, self._device.current():
            self._warm_up()

    def _warm_up(self) -> None:
        """Run once, as the first run initialises what cannot be captured; then capture a frame."""
        if not self._enqueue(self._plain):
            raise EngineError(f"{self._flavour} cannot run its engine on {self._device.gpu}: {self._log.reason}")
        self._device.wait()
        # tensorrt_rtx makes a graph of its own, see _runtime_config.
        context: Any = self._context  # a call that the types of `tensorrt` do not have
        self._of_rtx = bool(self._flavour.targets) and context.is_stream_capturable(self._device.stream)
        self._capture(self._plain)
        logger.info("a frame is launched %s", self.launches)

    def _capture(self, way: _Way) -> None:
        if way.graph:
            way.graph.close()
            way.graph = None
        if self._flavour.targets:
            return
        enqueue = partial(self._enqueue, way)
        # Twice, as what another library does to the whole GPU meanwhile spoils a capture.
        way.graph = self._device.capture(enqueue) or self._device.capture(enqueue)

    def _copy_input(self) -> None:
        self._device.copy_in(self._input_address, self.input)

    def _enqueue(self, way: _Way) -> bool:
        """Put a frame into the stream: image in, network, what follows, outputs out. False: no network."""
        way.enqueue()
        if not self._context.execute_async_v3(self._device.stream):
            return False
        for work in self._behind:
            work()
        for host, address in self._fetched:
            self._device.copy_out(host, address)
        return True

    def take(self, image: np.ndarray, spec: Preprocessing) -> None:
        """Take a frame for the next run of `input`; see `edgead.runtime.contract.TakesFrames`."""
        self._check_open()
        self._next = self._plain
        if not self._prepares:
            preprocess(image, spec, out=self.input[0])
            return
        seen, size, sides = looked_at(image, spec)
        key = seen.shape[:2], size, sides
        if key not in self._ways and len(self._ways) < _MOST_SHAPES:
            self._ways[key] = self._new_way(*key)
            logger.info("a frame is launched %s", self.launches)
        way = self._ways.get(key)
        if way is not None and way.frames is not None:
            np.copyto(way.frames.image, seen)
            self._next = way
        else:
            prepared(seen, size, sides, out=self.input[0])

    def _new_way(self, shape: tuple[int, int], size: tuple[int, int], sides: Sides) -> _Way | None:
        """Prepare for frames of a shape; None where the CPU must prepare them, as it would give other pixels."""
        with _ONE_AT_A_TIME, self._device.current():
            try:
                frames = FramesOnGpu(self._device, shape, size, sides, self._input_address)
                differing = frames.differing()
            except (ValueError, RuntimeError) as error:
                problem = str(error)
            else:
                problem = f"the GPU gives {differing} other numbers than OpenCV here" if differing else ""
            if problem:
                logger.warning("the CPU prepares frames of %d x %d: %s", shape[1], shape[0], problem)
                return None
            way = _Way(frames.enqueue, frames=frames)
            self._capture(way)
            return way

    def run(self, images: np.ndarray) -> dict[str, Any]:
        """Run the network on one image; see `edgead.runtime.contract.Runtime.run`."""
        self._check_open()
        way, self._next = self._next, self._plain
        if images is not self.input:
            np.copyto(self.input, images, casting="no")
            way = self._plain
        with self._device.current():
            if way.graph:
                way.graph.launch()
            elif not self._enqueue(way):
                raise RuntimeError(f"TensorRT could not run the network: {self._log.reason}")
            self._device.wait()
        return self.outputs

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("this runtime was closed")

    def close(self) -> None:
        """Release the GPU; the runtime cannot be used afterwards."""
        if self._closed:
            return
        self._closed = True
        with _ONE_AT_A_TIME:
            with self._device.current():
                # In this order, as each needs the next; buffers belong to the device.
                for way in (self._plain, *self._ways.values()):
                    if way and way.graph:
                        way.graph.close()
                self._context = self._engine = None  # type: ignore[assignment]
            self._device.close()
            # After it, as a copy may still be in the stream. Who else holds pinned arrays keeps them.
            self.input, self.outputs, self._fetched = np.zeros_like(self.input), {}, []
            self._ways, self._behind = {}, []


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
