"""Builder of TensorRT engines from ONNX graphs. It needs only the graph and TensorRT, so devices build their own."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgead.errors import EdgeadError
from edgead.runtime.engine_cache import CacheFile
from edgead.runtime.flavour import Flavour

if TYPE_CHECKING:
    import tensorrt as trt

Profile = dict[str, tuple[int, ...]]


class EngineError(EdgeadError):
    """Engine that cannot be built from a graph, or must not be used; the message says why and what to do."""


class Log:
    """Collector of TensorRT's latest error messages; `logger` is passed to its objects."""

    def __init__(self, api: Any):
        self._errors = errors = deque[str](maxlen=32)

        class Logger(api.ILogger):
            def __init__(self) -> None:
                api.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity <= api.ILogger.ERROR:  # smaller is more severe
                    errors.append(message.strip())

        self.logger = Logger()

    @property
    def reason(self) -> str:
        """Latest error, preferably not the one that a builder without a GPU repeats."""
        last = list(self._errors)
        said = [message for message in last if "CUDA driver version is insufficient" not in message] or last
        return said[-1] if said else "TensorRT gave no reason"


def build_engine(
    graph: Path, content: bytes, flavour: Flavour, target: str, timings: CacheFile | None = None, *, batch: int = 1
) -> tuple[bytes, Profile]:
    """Build the engine of a graph for single images, and with a second profile for batches.

    `graph`: ONNX file, named in errors.
    `content`: content of that file. It determines the engine's precision: the network is strongly typed.
    `target`: "current", or one of the flavour's targets.
    `timings`: cache of kernel timings from earlier builds; this build's timings are added.
    `batch`: batch size of the second profile; 1 makes none. The first profile is always tuned for one image.
    Returns shape of every input, for one image.
    Raises EngineError: the graph is refused; the message names the first unsupported node, or the reason.
    """
    api = flavour.api
    log = Log(api)
    builder: trt.Builder = api.Builder(log.logger)
    network: trt.INetworkDefinition = builder.create_network(
        1 << int(api.NetworkDefinitionCreationFlag.STRONGLY_TYPED)  # the only kind in TensorRT 11 and tensorrt_rtx
    )
    parser: trt.OnnxParser = api.OnnxParser(network, log.logger)
    if not parser.parse(content):
        raise EngineError(f"{graph}: {flavour} cannot take {_parser_error(parser, log)}")
    inputs = [network.get_input(i) for i in range(network.num_inputs)]
    profile = {one.name: _batch_of_one(one, graph) for one in inputs}
    fixed = [one.name for one in inputs if one.shape[0] != -1]
    if batch > 1 and fixed:
        raise EngineError(
            f"{graph}: its input {fixed[0]!r} takes one image at a time: build its engine without --batch"
        )
    config = _config(builder, flavour, target, log)
    for images in sorted({1, batch}):
        _add_profile(builder, config, flavour, profile, images, log)
    known = timings.read() if timings else b""
    measured = _set_timings(config, timings, known) if timings else None  # must outlive the build
    serialized = builder.build_serialized_network(network, config)
    if serialized is None:
        raise EngineError(f"{graph}: {flavour} built no engine for {target}: {log.reason}")
    if timings and measured is not None:
        kept = bytes(measured.serialize())
        if kept != known:
            timings.keep(kept)
    return bytes(serialized), profile


def _set_timings(config: trt.IBuilderConfig, timings: CacheFile, known: bytes) -> trt.ITimingCache | None:
    """Set the build's timing cache, from known timings or empty; None if TensorRT refuses both."""
    for content in dict.fromkeys((known, b"")):
        measured = config.create_timing_cache(content)
        if measured is not None and config.set_timing_cache(measured, ignore_mismatch=False):
            return measured
        if content:
            timings.ignore("is not taken by TensorRT")
    return None


def _config(builder: trt.Builder, flavour: Flavour, target: str, log: Log) -> trt.IBuilderConfig:
    api = flavour.api
    config = builder.create_builder_config()
    # TF32 has only the 10 mantissa bits of fp16, while a fp32 graph is chosen for exactness.
    config.clear_flag(api.BuilderFlag.TF32)
    if flavour.targets:
        set_targets: Any = config  # calls that are missing from the type stubs of `tensorrt`
        set_targets.num_compute_capabilities = 1
        set_targets.set_compute_capability(getattr(api.ComputeCapability, target.upper()), 0)
    return config


def _add_profile(
    builder: trt.Builder, config: trt.IBuilderConfig, flavour: Flavour, shapes: Profile, images: int, log: Log
) -> None:
    profile = builder.create_optimization_profile()
    for name, (_, *rest) in shapes.items():
        dims = flavour.api.Dims((images, *rest))
        profile.set_shape(name, dims, dims, dims)
    if config.add_optimization_profile(profile) < 0:
        raise EngineError(f"{flavour} takes no batches of {images} of {shapes}: {log.reason}")


def _batch_of_one(tensor: trt.ITensor, graph: Path) -> tuple[int, ...]:
    batch, *rest = shape = shape_of(tensor.shape)
    if batch not in (-1, 1) or min(rest) < 1:
        raise EngineError(f"{graph}: its input {tensor.name!r} of shape {shape} is no batch of images")
    return (1, *rest)


def shape_of(dims: trt.Dims) -> tuple[int, ...]:
    return tuple(dims[i] for i in range(len(dims)))


def _parser_error(parser: trt.OnnxParser, log: Log) -> str:
    if not parser.num_errors:
        return f"this file: {log.reason}"
    error = parser.get_error(0)
    # The message begins with the failed attempt; lines about TensorRT's own source follow.
    lines = [line.strip() for line in error.desc().splitlines()]
    reason = next((line for line in lines if "Error Code" in line), lines[0] if lines else "no reason given")
    node = f"node {error.node_name()!r} ({error.node_operator()})" if error.node_operator() else "this file"
    return f"{node}: {reason}"
