"""Versions of the software that exports a model, for the manifest."""

from __future__ import annotations

import onnx
import torch

from edgead.adapt.methods.method import software_versions


def export_versions() -> dict[str, str]:
    """Versions of what makes and runs a model."""
    return software_versions() | {module.__name__: str(module.__version__) for module in (torch, onnx)}
