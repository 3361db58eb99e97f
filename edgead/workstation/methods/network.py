"""Base of methods that train a torch network, which is exported unchanged."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from edgead.export.calibration_images import CalibrationImages
from edgead.export.graph import export_onnx
from edgead.export.versions import export_versions
from safetensors.torch import save as serialize
from torch import nn

from edgead import kernels
from edgead.adapt.methods.method import AUTO, FP32, INT8, Config, GoodPaths, Method, Trained
from edgead.artifact.folder import Artifact
from edgead.artifact.manifest import Manifest
from edgead.dataset.folders import StageProgress
from edgead.workstation.trainer.checkpoint import Checkpoint
from edgead.workstation.trainer.device import choose_device, peak_memory, use_cores
from edgead.workstation.training.int8 import TRIES_INT8, check_int8, ship_int8


class NetworkMethod(Method[Config]):
    """Base of methods that train a network.

    `network`: network from uint8 RGB (n, h, w, 3) to the tensors that the head's `outputs` name, in their order.
        Buffers in `graph_arrays` become inputs of the exported graph.
    """

    network: nn.Module
    _shipped = FP32

    @property
    def versions(self) -> dict[str, str]:
        return export_versions()

    @classmethod
    def stages(cls, precision: str) -> tuple[Sequence[str], Sequence[str]]:
        tries = precision == INT8 or (precision == AUTO and kernels.gains_by_int8())
        return (), TRIES_INT8 if tries else ()

    def choose_precision(self, precision: str, images: int, *, cross_validates: bool) -> None:
        super().choose_precision(precision, images, cross_validates=cross_validates)
        if precision == INT8:
            check_int8(self.name, images, calibrated=self.calibrated, cross_validates=cross_validates)
        self._shipped = precision

    def choose_device(self, name: str) -> torch.device:
        device = choose_device(name)
        use_cores()
        return device

    def trained(self) -> Trained:
        return replace(super().trained(), network=self.network)

    def outputs_of(self, image: np.ndarray) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            given = self.network(torch.from_numpy(image)[None])
        tensors = given if isinstance(given, tuple) else (given,)
        return {output.name: tensor.numpy() for output, tensor in zip(self.head.outputs, tensors, strict=True)}

    def network_ms(self) -> float:
        """Time the second of two runs in torch, as the first one initialises.

        It is the CPU time of one thread: on a busy machine several threads mostly wait for each other, and wall time
        depends on the load.
        """
        use_cores(1)
        image = torch.zeros(1, *self.preprocessing.image_size, 3, dtype=torch.uint8)
        network = self.network.eval()
        with torch.inference_mode():
            network(image)
            begin_ns = time.thread_time_ns()
            network(image)
            took_ns = time.thread_time_ns() - begin_ns
        use_cores()
        return took_ns / 1e6

    def open_checkpoint(self, folder: Path, belongs_to: Mapping[str, Any]) -> Checkpoint:
        return Checkpoint(folder, dict(belongs_to))

    def peak_memory(self, device: Any) -> dict[str, int | None]:
        return peak_memory(device)

    def write_graph(self, folder: Path, manifest: Manifest) -> None:
        """Write `model.onnx`, and the weights with which `edgead verify` compares it."""
        weights = {name: each for name, each in self.network.state_dict().items() if name not in self.graph_arrays}
        (folder / "weights.safetensors").write_bytes(serialize(weights))
        export_onnx(self.network, folder / "model.onnx", manifest)

    def finish(self, artifact: Artifact, good: GoodPaths, progress: StageProgress) -> Artifact:
        """Add the int8 graph if it is requested, or faster."""
        images = CalibrationImages(good.learnt, good.calibration, "training data", good.groups, good.folds)
        return ship_int8(artifact, images, self._shipped, progress)
