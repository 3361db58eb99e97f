"""NVIDIA's two TensorRT packages: `tensorrt`, and `tensorrt_rtx` with the same Python interface."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

from edgead.errors import SettingsError

FlavourName = Literal["tensorrt", "tensorrt_rtx"]
# NVIDIA's meta package imports all of its bindings; installed alone, the bindings have names of their own.
_MODULES = {"tensorrt": ("tensorrt",), "tensorrt_rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings")}
_OLDEST: dict[FlavourName, tuple[int, int]] = {"tensorrt": (10, 0), "tensorrt_rtx": (1, 0)}
INSTALL = (
    "on a Jetson it comes with JetPack (make the virtual environment with --system-site-packages), elsewhere "
    "`pip install 'edgead[tensorrt]'`, or `pip install 'edgead[tensorrt-rtx]'` for GeForce and RTX cards"
)


@dataclass(frozen=True, slots=True)
class Flavour:
    """Installed TensorRT package; `api` is its module."""

    name: FlavourName
    version: str
    api: Any

    def __str__(self) -> str:
        return f"{self.name} {self.version}"

    @property
    def targets(self) -> tuple[str, ...]:
        """GPUs, such as "sm86", for which it builds engines without the GPU present; none for `tensorrt`."""
        if self.name == "tensorrt":
            return ()
        return tuple(name.lower() for name in self.api.ComputeCapability.__members__ if name.startswith("SM"))


def installed_flavours() -> list[Flavour]:
    """Import each installed TensorRT package.

    Raises SettingsError: a package is installed but does not load, or is too old.
    """
    return [flavour for name in get_args(FlavourName) if (flavour := _load(name))]


def find_flavour(target: str = "current") -> Flavour:
    """Choose the TensorRT package that builds engines for a target.

    `target`: "current" for this machine's GPU: `tensorrt`, which is tuned on it, before `tensorrt_rtx`. Or a GPU such
        as "sm86": a package that builds for it without the GPU present.
    Raises SettingsError: no installed package can do that.
    """
    found = installed_flavours()
    if not found:
        raise SettingsError(f"TensorRT is not installed: {INSTALL}")
    if target == "current":
        return found[0]
    for flavour in found:
        if target in flavour.targets:
            return flavour
    known = "; ".join(f"{f} builds for {', '.join(('current', *f.targets))}" for f in found)
    raise SettingsError(f"no engine can be built here for {target!r}: {known}")


def _load(name: FlavourName) -> Flavour | None:
    for module in _MODULES[name]:
        try:
            api = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise SettingsError(f"{module} is installed but does not load: {error}") from error
            continue
        except (ImportError, OSError, RuntimeError) as error:
            raise SettingsError(f"{module} is installed but does not load: {error}") from error
        if hasattr(api, "Builder"):  # packages of type stubs leave an empty folder that can be imported
            return _new_enough(Flavour(name, str(api.__version__), api))
    return None


def _new_enough(flavour: Flavour) -> Flavour:
    """Refuse a TensorRT that lacks required calls: 8.6, of JetPack 6.0, has no strongly typed networks."""
    major, minor = _OLDEST[flavour.name]
    found = re.match(r"(\d+)\.(\d+)", flavour.version)
    if not found or tuple(map(int, found.groups())) < (major, minor):
        raise SettingsError(
            f"{flavour} is too old: {major}.{minor} or newer is needed. A Jetson has it from JetPack 6.1 on; "
            "elsewhere install a newer one"
        )
    return flavour
