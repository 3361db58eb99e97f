"""Verb `doctor`'s trials of this machine: kernels, runtimes, cameras, codecs and windows."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from edgead.adapt.methods.registry import METHODS
from edgead.adapt.training.log import TRACKERS
from edgead.components.added import load_entry
from edgead.errors import SettingsError
from edgead.heads import find_head
from edgead.line.site.reference import KINDS
from edgead.process.installation import install_command, of_plugins
from edgead.process.quiet_libraries import quiet_opencv, quiet_stderr
from edgead.profiling.latency import machine_facts
from edgead.runtime.device import find_gpu, open_device
from edgead.runtime.engine_builder import Log
from edgead.runtime.flavour import installed_flavours
from edgead.sinks.window import gui_problem
from edgead.sources import SourceError, open_source
from edgead.sources.camera import list_cameras
from edgead.synthetic.makers import MAKERS
from edgead.unlabelled.screening.screeners import SCREENERS
from edgead.unlabelled.sorting.sort import SORTERS

if TYPE_CHECKING:
    from rich.table import Table

# edgead does not work without these; all others add to what it can do. "model" is there if one is named.
REQUIRED = ("machine", "isa", "onnxruntime", "image png", "image jpg", "model")
_VIDEO_CODECS = (("MJPG", ".avi"), ("mp4v", ".mp4"), ("avc1", ".mp4"))
# Entry points of plug-ins.
_GROUPS = "methods backbones heads sorters screeners defects trackers sources sinks triggers runtimes verbs".split()
_IMAGE_FORMATS = ("jpg", "png", "tiff", "webp")
# y = Abs(x) on one float: a ModelProto of ir_version 8 and opset 13, written by hand in protobuf's wire format.
# Fields: 1 ir_version, 7 graph {1 node {1 input, 2 output, 4 op_type}, 2 name, 11 input, 12 output}, 8 opset_import.
_ABS_MODEL = bytes.fromhex(
    "08083a340a0b0a01781201792203416273" + "1203616273"
    "5a0f0a0178120a0a08080112040a020801" + "620f0a0179120a0a08080112040a020801" + "4202100d"
)
_TRAINING = """
import importlib, importlib.metadata
names = ("torch", "onnx", "efficientnet_lite_pytorch")
for name in names:
    importlib.import_module(name)
print(", ".join(f"{name} {importlib.metadata.version(name.replace('_', '-'))}" for name in names))
"""
_TRAINING_S = 120

Finding = dict[str, Any]


def examine(probe_cameras: bool = True, model: Path | None = None) -> dict[str, Finding]:
    """Try the parts of this machine that edgead can use.

    `probe_cameras`: open every camera and read a frame; False only lists them.
    `model`: model, to find out which runtime judges its frames on this machine.
    Returns name to `{"ok": bool, "detail": str}`; `machine` also has its `facts`. See `is_fit` for those that must be
        ok.
    """
    findings = {
        "machine": _tried(_machine),
        "threads": _tried(_threads),
        "isa": _tried(_isa),
        "native kernels": _tried(_native),
        "cuda kernels": _tried(_cuda),
        "onnxruntime": _tried(_onnxruntime),
        "openvino": _tried(_openvino),
        "tensorrt": _tried(_tensorrt),
        "torch": _torch(),
        "window": _window(),
        "plug-ins": _plugins(),
    }
    if model is not None:
        findings["model"] = _tried(partial(_model, model))
    with quiet_opencv(), quiet_stderr():
        findings |= {f"image {name}": _tried(partial(_image_format, name)) for name in _IMAGE_FORMATS}
        for fourcc, suffix in _VIDEO_CODECS:
            findings[f"video {fourcc} {suffix}"] = _tried(partial(_video_codec, fourcc, suffix))
        return findings | _cameras(probe_cameras)


def is_fit(findings: dict[str, Finding]) -> bool:
    """Return whether every required part works."""
    return all(finding["ok"] for name, finding in findings.items() if name in REQUIRED)


def examination_table(findings: dict[str, Finding]) -> Table:
    """Make a table of the findings for a terminal."""
    from rich.table import Table

    table = Table(title="this machine", title_justify="left")
    for column in ("part", "works", "detail"):
        table.add_column(column)
    for name, finding in findings.items():
        works = "yes" if finding["ok"] else "NO, required" if name in REQUIRED else "no"
        table.add_row(name, works, finding["detail"])
    return table


def _plugins() -> Finding:
    """List the plug-ins that can be loaded, that cannot, and that this repository has but are not installed."""
    sound, broken = [], []
    entries = [(kind, entry) for kind in _GROUPS for entry in entry_points(group=f"edgead.{kind}")]
    registries = {f"{registry.kind}s": registry for registry, _ in KINDS}
    finders: dict[str, Callable[[str], Any]] = {
        added.group: added.find for added in (METHODS, SORTERS, SCREENERS, MAKERS, TRACKERS)
    }
    finders["edgead.heads"] = find_head
    for kind, entry in entries:
        name = f"{entry.name} ({kind})"
        why = None
        try:
            if kind in registries:
                registries[kind].all()
                why = registries[kind].left_out.get(entry.name)
            elif entry.group in finders:
                finders[entry.group](entry.name)
            else:
                load_entry(entry)
        except Exception as error:  # noqa: BLE001  the edge to other people's code
            why = f"{type(error).__name__}: {error}"
        if why is None:
            sound.append(name)
        else:
            broken.append(f"{name} cannot be used: {why}")
    absent = {package for kind in _GROUPS for package in of_plugins(f"edgead.{kind}").values()}
    absent -= {entry.dist.name for _, entry in entries if entry.dist}
    rest = [f"not installed: {', '.join(sorted(absent))}"] if absent else []
    return {"ok": not broken, "detail": "; ".join([*broken, *sound, *rest])}


def _tried(probe: Callable[[], Finding]) -> Finding:
    """Run one probe, and turn any error into a finding, since probes look for failures."""
    try:
        return probe()
    except (ImportError, OSError, RuntimeError, ValueError, cv2.error) as error:
        return {"ok": False, "detail": f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"}


def _found(detail: str) -> Finding:
    return {"ok": True, "detail": detail}


def _machine() -> Finding:
    facts = machine_facts()
    parts = (facts["cpu"], f"{facts['logical_cores']} cores", f"{facts['memory_mib']} MiB", facts["os"])
    return {"ok": True, "detail": ", ".join(str(part) for part in parts), "facts": facts}


def _threads() -> Finding:
    from edgead import kernels

    facts = machine_facts()
    allowed = facts["affinity"] or range(facts["logical_cores"] or 1)
    return _found(
        f"kernels use {kernels.threads()}, OpenCV {cv2.getNumThreads()}; this process may run on"
        f" {len(allowed)} of {facts['logical_cores']} cores"
    )


def _isa() -> Finding:
    from edgead import kernels

    if not kernels.available_isas():
        return _found("none: numpy does the work")
    return _found(f"{kernels.isa()} is used; this machine runs {', '.join(kernels.available_isas())}")


def _native() -> Finding:
    from edgead import kernels
    from edgead.kernels.backend import NOT_BUILT

    if "cpu" not in kernels.backends():
        return {"ok": False, "detail": NOT_BUILT}
    distance, _index = kernels.NearestPatches(np.zeros((1, 4), np.float32)).search(np.ones((1, 4), np.float32), 1)
    return {"ok": bool(np.allclose(distance, 2.0)), "detail": f"backends {', '.join(kernels.backends())}"}


def _cuda() -> Finding:
    from edgead import kernels
    from edgead.kernels.backend import load_cuda

    name = load_cuda().device_name(0)
    distance, _index = kernels.NearestPatches(np.zeros((1, 4), np.float32), backend="cuda").search(
        np.ones((1, 4), np.float32)
    )
    return {"ok": bool(np.allclose(distance, 2.0)), "detail": f"nearest patches are found on {name}"}


def _onnxruntime() -> Finding:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # a provider that does not load is reported below
    working: list[str] = []
    broken: list[str] = []
    for provider in onnxruntime.get_available_providers():
        if provider == "AzureExecutionProvider":
            continue  # sends images to a service, edgead never does
        runs = _provider_runs(onnxruntime, provider, options)
        (working if runs else broken).append(provider.removesuffix("ExecutionProvider"))
    fails = f"; listed but does not load: {', '.join(broken)}" if broken else ""
    detail = f"{onnxruntime.__version__} runs a network on {', '.join(working) or 'nothing'}{fails}"
    return {"ok": "CPU" in working, "detail": detail}


def _provider_runs(onnxruntime: ModuleType, provider: str, options: Any) -> bool:
    try:
        with quiet_stderr():
            session = onnxruntime.InferenceSession(_ABS_MODEL, options, providers=[provider])
            (result,) = session.run(None, {"x": np.array([-2.0], np.float32)})
    except _ort_errors(onnxruntime):
        return False
    return session.get_providers()[0] == provider and bool(result[0] == 2.0)


def _ort_errors(onnxruntime: ModuleType) -> tuple[type[Exception], ...]:
    """List the exceptions of ONNX Runtime; its own share no base class."""
    values = vars(onnxruntime.capi.onnxruntime_pybind11_state).values()
    own = [value for value in values if isinstance(value, type) and issubclass(value, Exception)]
    return (OSError, RuntimeError, ValueError, *own)


def _openvino() -> Finding:
    if importlib.util.find_spec("openvino") is None:
        return {"ok": False, "detail": f"not installed (optional: {install_command('openvino')})"}
    openvino = importlib.import_module("openvino")
    core = openvino.Core()
    working: list[str] = []
    broken: list[str] = []
    for device in core.available_devices:
        (working if _device_runs(core, device) else broken).append(device)
    fails = f"; finds, but cannot use: {', '.join(broken)}" if broken else ""
    detail = f"{openvino.__version__} runs a network on {', '.join(working) or 'nothing'}{fails}"
    return {"ok": "CPU" in working, "detail": detail}


def _device_runs(core: Any, device: str) -> bool:
    try:
        request = core.compile_model(core.read_model(_ABS_MODEL), device).create_infer_request()
        (result,) = request.infer({"x": np.array([-2.0], np.float32)}).values()
    except RuntimeError:  # of a driver
        return False
    return bool(result[0] == 2.0)


def _tensorrt() -> Finding:
    flavours = installed_flavours()
    if not flavours:
        return {"ok": False, "detail": "not installed (optional)"}
    builds = []
    for flavour in flavours:
        log = Log(flavour.api)
        if flavour.api.Builder(log.logger) is None:
            return {"ok": False, "detail": f"{flavour} makes no builder: {log.reason}"}
        builds.append(f"{flavour} builds engines for {', '.join(('current', *flavour.targets))}")
    try:
        runs = f"runs them on {find_gpu()}, {_graphs()}"
    except SettingsError as error:
        runs = f"runs none here: {error}"
    return _found("; ".join([*builds, runs]))


def _graphs() -> str:
    """Test a CUDA graph by a captured copy to the GPU and back; return a sentence with the result."""
    device = open_device()
    try:
        with device.current():
            here, back = device.pinned((1,), np.float32), device.pinned((1,), np.float32)
            address = device.allocate(here.nbytes)

            def enqueue() -> bool:
                device.copy_in(address, here)
                device.copy_out(back, address)
                return True

            graph = device.capture(enqueue)
            if graph is None:
                return f"without CUDA graphs, a kernel at a time ({type(device).__name__})"
            here[...] = 2
            graph.launch()
            device.wait()
            graph.close()
            return "a frame as one CUDA graph" if back[0] == 2 else "but what a CUDA graph copies does not arrive"
    finally:
        device.close()


def _model(path: Path) -> Finding:
    from edgead.detector import Detector

    with Detector.load(path) as detector:
        if detector.launches and not detector.manifest.preprocessing.keeps_depth:
            # A frame shows whether the GPU prepares frames; it has a size that the model has learnt.
            for size in detector.format_check.known[:1]:
                detector.measure(np.zeros((int(size.height), int(size.width), 3), np.uint8))
        launched = f", a frame {detector.launches}" if detector.launches else ""
        return _found(f"{detector.graph.precision} on {detector.runtime}{launched}")


def _torch() -> Finding:
    # In a process of its own: these imports take seconds and memory that stay, and a device has no use for them.
    try:
        tried = subprocess.run([sys.executable, "-c", _TRAINING], capture_output=True, text=True, timeout=_TRAINING_S)
    except subprocess.TimeoutExpired:
        return {"ok": False, "detail": f"importing what training needs took more than {_TRAINING_S} s"}
    if tried.returncode == 0:
        return _found(f"models can be trained here: {tried.stdout.strip()}")
    reason = (tried.stderr.strip().splitlines() or [f"the import ended with code {tried.returncode}"])[-1]
    return {"ok": False, "detail": f"models are trained elsewhere ({install_command('train')}): {reason}"}


def _window() -> Finding:
    problem = gui_problem()
    return {"ok": False, "detail": problem} if problem else _found("a window can be opened")


def _image_format(name: str) -> Finding:
    image = _test_image()
    ok, data = cv2.imencode(f".{name}", image)
    back = cv2.imdecode(data, cv2.IMREAD_COLOR) if ok else None
    if back is None or back.shape != image.shape:
        return {"ok": False, "detail": "cannot be encoded and decoded again"}
    error = np.abs(back.astype(int) - image).mean()
    return {"ok": bool(error < 8), "detail": f"encoded and decoded, mean error {error:.2g} of 255"}


def _video_codec(fourcc: str, suffix: str) -> Finding:
    image = _test_image()
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / f"probe{suffix}")
        writer = cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*fourcc), 25, (image.shape[1], image.shape[0]))
        opened = writer.isOpened()
        for _ in range(5 if opened else 0):
            writer.write(image)
        writer.release()
        if not opened:
            return {"ok": False, "detail": "this OpenCV has no encoder for it"}
        capture = cv2.VideoCapture(path)
        count = 0
        while capture.read()[0]:
            count += 1
        capture.release()
    return {"ok": count == 5, "detail": f"5 frames written, {count} read back"}


def _cameras(probe: bool) -> dict[str, Finding]:
    devices = list_cameras()
    if not devices:
        return {"cameras": {"ok": False, "detail": "no video device found (/dev/video*)"}}
    if not probe:
        return {"cameras": _found(f"{', '.join(map(str, devices))} (not opened)")}
    return {f"camera {device}": _camera(device) for device in devices}


def _camera(device: Path) -> Finding:
    try:
        source = open_source(f"camera:{device}", open_timeout_s=3, read_timeout_s=3)
        try:
            frame = next(iter(source))
        finally:
            source.close()
    except SourceError as error:
        return {"ok": False, "detail": str(error)}
    height, width = frame.image.shape[:2]
    return _found(f"gives {width} x {height} images, mean brightness {frame.image.mean():.0f} of 255")


def _test_image() -> np.ndarray:
    """Make a smooth image, in which a lossy codec changes little."""
    rows, columns = np.mgrid[:96, :128]
    return np.dstack([rows * 2, columns, 200 - rows]).astype(np.uint8)
