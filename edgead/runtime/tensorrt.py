"""TensorRT runtime: one stream from the image to the map, as one CUDA graph if possible.

A frame allocates nothing and is waited for once; the first frame of a shape makes what later ones reuse. An engine for
batches processes several frames in the same manner, with buffers and a graph of their own.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
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
from edgead.runtime.device import CudaGraph, Device, DeviceArray, Shared, open_device
from edgead.runtime.engine import EngineFile, PlantedEngineError, find_engine, precision_of_engine
from edgead.runtime.engine_builder import EngineError, Log, shape_of
from edgead.runtime.engine_cache import CacheFile, cache_file
from edgead.runtime.flavour import Flavour
from edgead.runtime.frames_on_gpu import FramesOnGpu
from edgead.runtime.registry import register

if TYPE_CHECKING:
    import tensorrt as trt

logger = logging.getLogger(__name__)

# TensorRT's operations on the whole GPU, when it loads or frees an engine, would invalidate another thread's capture.
_ONE_AT_A_TIME = threading.Lock()
# Number of frame shapes that get memory on the GPU; the CPU preprocesses frames of others.
_MOST_SHAPES = 4


# Result of `looked_at` without the image: shape of the cropped frame, its size in the network's input, padding.
_Key = tuple[tuple[int, int], tuple[int, int], Sides]


@dataclass(slots=True)
class _Way:
    """Path of frames into the network: the function that enqueues them, and the CUDA graph of the whole run."""

    enqueue: Callable[[], None]
    graph: CudaGraph | None = None
    frames: FramesOnGpu | None = None


class TensorRtRuntime:
    """Artifact's engine for this GPU, for single images, and for batches if it was built for them.

    `graph`: graph that the engine must have been built from.
    `on_device`: leave the output for patch scores on the GPU: `run` then returns a DeviceArray for it.
    `several`: see `edgead.runtime.contract.RunsSeveral`.
    Raises SettingsError: TensorRT, a GPU, a library to access it, or an engine for it is missing.
    Raises EngineError: the existing engine must not be used; the message ends with the command that builds it again.
    """

    def __init__(self, artifact: Artifact, graph: Graph, *, on_device: bool = False):
        spec = artifact.manifest.preprocessing
        self.input, self.outputs = np.zeros((1, *spec.image_size, spec.channels), spec.dtype), dict[str, Any]()
        self.several: _Network | None = None
        self._device: Device = open_device()
        self._networks: list[_Network] = []
        self._engine: trt.ICudaEngine | None = None
        self._closed = False
        try:
            with _ONE_AT_A_TIME, self._device.current():
                wanted = find_engine(artifact, graph, self._device.gpu)
                log = Log(wanted.flavour.api)
                compiled = Compiled(cache_file("runtime", wanted.flavour, wanted.gpu))
                self._engine = _deserialise(wanted, log)
                opened = _Opened(artifact, wanted, self._device, log, on_device)
                config = _runtime_config(self._engine, wanted.flavour, compiled)
                for profile in range(self._engine.num_optimization_profiles):
                    self._networks.append(_Network(opened, _context(self._engine, opened, config)))
                    self._networks[-1].open(self._engine, profile)
                compiled.keep()
        except BaseException:
            self.close()
            raise
        self._one, *more = self._networks
        self.several = more[0] if more else None
        self.input, self.outputs = self._one.input, self._one.outputs

    @property
    def launches(self) -> str:
        """Description of a frame's launch, such as "as one CUDA graph from the image to the map"."""
        several = f"; {self.several.count} images at once where they come together" if self.several else ""
        return self._one.launches + several

    def take(self, image: np.ndarray, spec: Preprocessing) -> None:
        """Preprocess a frame into `input` for the next run; see `edgead.runtime.contract.TakesFrames`."""
        self._one.take([(image, spec)])

    def run(self, images: np.ndarray) -> dict[str, Any]:
        """Run the network on one image; see `edgead.runtime.contract.Runtime.run`."""
        self._one.check_open()
        if images is not self.input:
            np.copyto(self.input, images, casting="no")
            self._one.take_input()
        self._one.run()
        return self.outputs

    def close(self) -> None:
        """Release the GPU; the runtime cannot be used afterwards."""
        if self._closed:
            return
        self._closed = True
        with _ONE_AT_A_TIME:
            with self._device.current():
                # In this order, as each depends on the next; buffers belong to the device.
                for network in self._networks:
                    network.close()
                self._engine = None
            self._device.close()
            # After closing, as a copy may still be in the stream. Pinned arrays that others hold stay valid.
            for network in self._networks:
                network.forget()
            self.input, self.outputs = np.zeros_like(self.input), {}


@dataclass(frozen=True, slots=True)
class _Opened:
    """Objects that the networks of one engine share."""

    artifact: Artifact
    wanted: EngineFile
    device: Device
    log: Log
    on_device: bool


class _Network:
    """Network of an engine for runs of `count` images, by one profile; see `edgead.runtime.contract.Several`.

    `context` (IExecutionContext): execution context of this network alone.
    """

    def __init__(self, opened: _Opened, context: trt.IExecutionContext):
        spec = opened.artifact.manifest.preprocessing
        self._opened, self._device, self._log = opened, opened.device, opened.log
        self._flavour = opened.wanted.flavour
        self._context: trt.IExecutionContext | None = context
        self._prepares = not spec.keeps_depth and not cuda_problem()
        self._given: Shared | None = None
        self._fetched: list[Shared] = []
        self._plain = self._next = _Way(self._copy_input)
        self._ways: dict[_Key, _Way | None] = {}
        self._behind: list[Callable[[], None]] = []
        self._of_rtx = False

    def open(self, engine: trt.ICudaEngine, profile: int) -> None:
        """Allocate buffers, run once, and capture a run; other networks of the engine must not do so meanwhile."""
        manifest, stream = self._opened.artifact.manifest, self._device.stream
        if profile and not self._running.set_optimization_profile_async(profile, stream):
            raise EngineError(f"TensorRT does not take profile {profile} of its engine: {self._log.reason}")
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        types = {name: engine.get_tensor_dtype(name) for name in names}
        (self.count, *_) = shape_of(engine.get_tensor_profile_shape(manifest.input, profile)[0])
        self._allocate(types)
        self._warm_up()

    def check_open(self) -> None:
        """Raise RuntimeError if the runtime was closed."""
        _ = self._running

    @property
    def _running(self) -> trt.IExecutionContext:
        if self._context is None:
            raise RuntimeError("this runtime was closed")
        return self._context

    @property
    def launches(self) -> str:
        """See `TensorRtRuntime.launches`."""
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

    def _allocate(self, types: dict[str, Any]) -> None:
        """Allocate the buffers and set their addresses in the context."""
        opened, device, api = self._opened, self._device, self._flavour.api
        manifest = opened.artifact.manifest
        spec = manifest.preprocessing
        shape: tuple[int, ...] = (self.count, *spec.image_size, spec.channels)
        given = api.DataType.FLOAT if spec.keeps_depth else api.DataType.UINT8
        expected = {manifest.input: given} | dict.fromkeys(manifest.outputs, api.DataType.FLOAT)
        if types != expected or not self._running.set_input_shape(manifest.input, api.Dims(shape)):
            raise EngineError(
                f"{opened.wanted.path} does not take {manifest.input!r} of {shape} or does not give "
                f"{', '.join(manifest.outputs)} as the manifest says: write the graph again with `edgead export`"
            )
        self._given = device.share(shape, spec.dtype)
        self.input, self._target = self._given.array, self._given.address
        self._set_address(manifest.input, self._target)
        self.outputs: dict[str, Any] = {}
        self.lanes: list[dict[str, Any]] = [{} for _ in range(self.count)]
        for name in manifest.outputs:
            shape = shape_of(self._running.get_tensor_shape(name))
            if opened.on_device and name == manifest.output:
                nbytes = 4 * int(np.prod(shape))
                address = device.allocate(nbytes)
                self.outputs[name] = DeviceArray(address, shape, device, self._then)
                step = nbytes // self.count
                for i, lane in enumerate(self.lanes):
                    lane[name] = DeviceArray(address + i * step, (1, *shape[1:]), device, self._then)
            else:
                fetched = device.share(shape, np.float32)
                address, self.outputs[name] = fetched.address, fetched.array
                for i, lane in enumerate(self.lanes):
                    lane[name] = fetched.array[i : i + 1]
                self._fetched.append(fetched)
            self._set_address(name, address)

    def _set_address(self, name: str, address: int) -> None:
        if not self._running.set_tensor_address(name, address):
            raise EngineError(f"TensorRT takes no memory for {name!r}: {self._log.reason}")

    def _then(self, work: Callable[[], None]) -> None:
        """See `DeviceArray.then`."""
        self._behind.append(work)
        with _ONE_AT_A_TIME, self._device.current():
            self._warm_up()

    def _warm_up(self) -> None:
        """Run once, as the first run initialises what cannot be captured; then capture a run."""
        if not self._enqueue(self._plain):
            raise EngineError(f"{self._flavour} cannot run its engine on {self._device.gpu}: {self._log.reason}")
        self._device.wait()
        # tensorrt_rtx captures graphs itself, see _runtime_config.
        context: Any = self._running  # a call that is missing from the type stubs of `tensorrt`
        self._of_rtx = bool(self._flavour.targets) and context.is_stream_capturable(self._device.stream)
        self._capture(self._plain)
        self._log_launches()

    def _log_launches(self) -> None:
        what = "a frame is" if self.count == 1 else f"{self.count} frames at once are"
        logger.info("%s launched %s", what, self.launches)

    def _capture(self, way: _Way) -> None:
        if way.graph:
            way.graph.close()
            way.graph = None
        if self._flavour.targets:
            return
        enqueue = partial(self._enqueue, way)
        # Two attempts, as another library's operation on the whole GPU invalidates a capture.
        way.graph = self._device.capture(enqueue) or self._device.capture(enqueue)

    def _copy_input(self) -> None:
        assert self._given is not None  # released with everything else
        self._given.copy_in()

    def _enqueue(self, way: _Way) -> bool:
        """Enqueue a run: images, network, later work, outputs. Returns False if the network was refused."""
        way.enqueue()
        if not self._running.execute_async_v3(self._device.stream):
            return False
        for work in self._behind:
            work()
        for fetched in self._fetched:
            fetched.copy_out()
        return True

    def take(self, frames: Sequence[tuple[np.ndarray, Preprocessing]]) -> None:
        """Preprocess frames for the next run; see `edgead.runtime.contract.Several`."""
        self.check_open()
        self._next = self._plain
        if not self._prepares:
            for (image, spec), target in zip(frames, self.input, strict=False):
                preprocess(image, spec, out=target)
            return
        looked = [looked_at(image, spec) for image, spec in frames]
        way = self._way_of({(seen.shape[:2], size, sides) for seen, size, sides in looked})
        if way is not None and way.frames is not None:
            for (seen, _, _), target in zip(looked, way.frames.images, strict=False):
                np.copyto(target, seen)
            self._next = way
        else:
            for (seen, size, sides), target in zip(looked, self.input, strict=False):
                prepared(seen, size, sides, out=target)

    def take_input(self) -> None:
        """Use the content of `input` for the next run, instead of frames."""
        self._next = self._plain

    def _way_of(self, keys: set[_Key]) -> _Way | None:
        """Choose the path for frames of these shapes; None if the CPU must preprocess them."""
        if len(keys) > 1:
            return None
        (key,) = keys
        if key not in self._ways and len(self._ways) < _MOST_SHAPES:
            self._ways[key] = self._new_way(*key)
            self._log_launches()
        return self._ways.get(key)

    def _new_way(self, shape: tuple[int, int], size: tuple[int, int], sides: Sides) -> _Way | None:
        """Make a path for frames of a shape; None if the GPU's pixels differ, so that the CPU must preprocess them."""
        with _ONE_AT_A_TIME, self._device.current():
            try:
                frames = FramesOnGpu(self._device, shape, size, sides, self._target, self.count)
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

    def run(self) -> list[dict[str, Any]]:
        """Run the network on the frames taken; see `edgead.runtime.contract.Several`."""
        self.check_open()
        way, self._next = self._next, self._plain
        with self._device.current():
            if way.graph:
                way.graph.launch()
            elif not self._enqueue(way):
                raise RuntimeError(f"TensorRT could not run the network: {self._log.reason}")
            self._device.wait()
        return self.lanes

    def close(self) -> None:
        """Release graphs and context; call it before the engine is released."""
        for way in (self._plain, *self._ways.values()):
            if way and way.graph:
                way.graph.close()
        self._context = None

    def forget(self) -> None:
        """Drop the references to arrays; call it after the device is closed."""
        self.input, self.outputs, self.lanes = np.zeros(0, np.uint8), {}, []
        self._given, self._fetched, self._ways, self._behind = None, [], {}, []


class Compiled:
    """Cache of the kernels that `tensorrt_rtx` compiles when an engine is opened; `tensorrt` has none."""

    def __init__(self, file: CacheFile):
        self._file, self._known = file, b""
        self._cache: Any = None

    def add_to(self, config: Any) -> None:
        """Set the cache, filled from its file, in a context's configuration."""
        self._cache, self._known = config.create_runtime_cache(), self._file.read()
        if self._known and not self._cache.deserialize(self._known):
            self._file.ignore("is of another driver or system")
        config.set_runtime_cache(self._cache)

    def keep(self) -> None:
        """Write the cache to its file if kernels were added."""
        if self._cache is not None:
            content = bytes(self._cache.serialize())
            if content != self._known:
                self._file.keep(content)
            self._known = b""


def _deserialise(wanted: EngineFile, log: Log) -> trt.ICudaEngine:
    runtime: trt.Runtime = wanted.flavour.api.Runtime(log.logger)
    engine: trt.ICudaEngine | None = runtime.deserialize_cuda_engine(wanted.read())
    if engine is None:
        raise EngineError(f"{wanted.path} cannot be used on {wanted.gpu}: {log.reason}")
    return engine


def _context(engine: trt.ICudaEngine, opened: _Opened, config: list[Any]) -> trt.IExecutionContext:
    context: trt.IExecutionContext | None = engine.create_execution_context(*config)
    if context is None:
        raise EngineError(f"{opened.wanted.path} cannot be used on {opened.wanted.gpu}: {opened.log.reason}")
    return context


def _runtime_config(engine: trt.ICudaEngine, flavour: Flavour, compiled: Compiled) -> list[Any]:
    """Arguments for new contexts: the runtime configuration of `tensorrt_rtx`, none for `tensorrt`."""
    if not flavour.targets:
        return []
    config: Any = engine.create_runtime_config()
    # Kernels are compiled while it runs, so the engine itself must choose what to capture and when.
    config.cuda_graph_strategy = flavour.api.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
    compiled.add_to(config)
    return [config]


class TensorRtOptions(Section):
    """TensorRT on an NVIDIA GPU, by an engine that `edgead engine` has built."""


def has_engine(artifact: Artifact, graph: Graph) -> bool:
    """Whether there is an engine for this machine's GPU, stale or not; one that may be planted does not count."""
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
