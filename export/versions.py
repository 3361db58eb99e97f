"""Versions of the software that exported a model, for the manifest."""

from __future__ import annotations

import onnx
import torch

from edgead.adapt.methods.method import software_versions


def export_versions() -> dict[str, str]:
    """Return the versions of the packages that make and run a model."""
    return software_versions() | {module.__name__: str(module.__version__) for module in (torch, onnx)}
