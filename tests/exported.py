"""torch's exporter takes six seconds of processor time for a network, nine tenths of a small training: once for each.

What it gives depends on the network (its code, its settings, its weights), on the names and shapes of what is fed to
it, and on nothing else. Two tests that train the same backbone at the same size share one tracing; everything after it
(names, checks, metadata, arrays) is done for each.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Tensors and modules are hashed by themselves; the rest is what torch keeps of hooks, empty in what is exported.
_OF_TORCH = {"_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"}


def share_tracings(make_once: Callable[[str, Callable[[Path], object]], Path]) -> None:
    """Let `edgead.export.graph` trace equal networks once in a session; where torch is not loaded, do nothing."""
    graph = sys.modules.get("edgead.export.graph")
    if graph is None:
        return
    import onnx

    trace = graph.trace

    def traced(network: Any, arrays: Any, *of_inputs: Any, **options: Any) -> Any:
        key = _key(network, list(arrays), (of_inputs, options))
        if key is None:
            return trace(network, arrays, *of_inputs, **options)
        folder = make_once(f"traced-{key}", lambda path: _save(trace(network, arrays, *of_inputs, **options), path))
        return onnx.load(folder / "traced.onnx")

    graph.trace = traced
    backbone = sys.modules.get("edgead.export.backbone")
    if backbone is not None:
        backbone.trace = traced


def _save(model: Any, folder: Path) -> None:
    folder.mkdir()
    (folder / "traced.onnx").write_bytes(model.SerializeToString())


def _key(network: Any, arrays: list[str], asked: Any) -> str | None:
    """A hash of all that a tracing depends on; None for a network whose settings cannot be pickled."""
    digest = hashlib.sha256(repr((asked, arrays, type(network), network)).encode())
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        if name not in arrays:  # those are inputs: their values are not in the graph
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    try:
        for name, module in network.named_modules():
            settings = {key: value for key, value in vars(module).items() if key not in _OF_TORCH}
            digest.update(name.encode() + pickle.dumps((type(module), sorted(settings.items()))))
    except (AttributeError, TypeError, pickle.PicklingError):
        return None
    return digest.hexdigest()[:32]
