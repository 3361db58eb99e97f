"""Reference of Python: list of the exported objects that mkdocstrings describes."""

from __future__ import annotations

import inspect
from importlib import import_module

import edgead

# Beside what `import edgead` gives.
MODULES = {
    "edgead.detector": ("Predictor",),
    "edgead.stream": ("run",),
    "edgead.kernels": None,
    "edgead.kernels.cuda": None,
    "edgead.line.drift": ("DriftWatch", "DriftState"),
    "edgead.calibration.conformal": None,
    "edgead.heads.contract": None,
    "edgead.sources.contract": None,
    "edgead.sinks.contract": None,
    "edgead.line.triggers.contract": None,
    "edgead.runtime.contract": None,
}


def page() -> str:
    """Write the page: a directive for each object."""
    same = "`edgead.load`, `evaluate`, `calibrate` and `teach` are the methods of `Model` with these names, for a path."
    parts = ["# Python", f"What `import edgead` gives. {same}"]
    names = sorted([*edgead.__all__, "AnomalyDetector"])
    parts += [f"::: {_home(edgead, name)}" for name in names if _described(getattr(edgead, name))]
    for name, members in MODULES.items():
        module = import_module(name)
        parts.append(f"## `{name}`")
        chosen = members or sorted(_public(module))
        parts += [f"::: {_home(module, member)}\n    options:\n      heading_level: 3" for member in chosen]
    return "\n\n".join(parts) + "\n"


def _described(value: object) -> bool:
    """Whether an object has its own entry; methods of Model are described with Model."""
    return inspect.isclass(value) or (inspect.isfunction(value) and "." not in value.__qualname__)


def _home(module: object, name: str) -> str:
    value = getattr(module, name)
    return f"{value.__module__}.{value.__qualname__}"


def _public(module: object) -> list[str]:
    """Return the names in a module's `__all__`, or else those defined in it."""
    listed = getattr(module, "__all__", None)
    names = listed or [
        name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__
    ]  # type: ignore[attr-defined]
    return [name for name in names if not name.startswith("_") and _described(getattr(module, name))]
