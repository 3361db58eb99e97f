"""A runtime: ONNX Runtime, whose outputs are made smaller, such as `--runtime 'dimmed?gain=0.5'`."""

from typing import Annotated

import numpy as np
from pydantic import Field

from edgead.artifact.folder import Artifact, Graph
from edgead.components.options import Section
from edgead.runtime import register
from edgead.runtime.ort import OrtRuntime


class DimmedOptions(Section):
    """ONNX Runtime with weaker outputs."""

    gain: Annotated[float, Field(gt=0, le=1, description="Factor of all outputs.")] = 1.0


class DimmedRuntime:
    def __init__(
        self, artifact: Artifact, graph: Graph, options: DimmedOptions, *, threads: int | None, on_device: bool
    ):
        self._inner = OrtRuntime(artifact, graph, threads=threads)
        self._gain = np.float32(options.gain)
        self.input, self.outputs = self._inner.input, self._inner.outputs

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        for output in self._inner.run(images).values():
            np.multiply(output, self._gain, out=output)
        return self.outputs

    def close(self) -> None:
        self._inner.close()


register("dimmed", DimmedOptions, DimmedRuntime)
