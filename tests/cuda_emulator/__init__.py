"""An emulated GPU: the real sources of csrc/cuda, compiled for the host with these headers, and a driver's library."""

from __future__ import annotations

import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
SOURCES = HERE.parent.parent / "csrc" / "cuda"
FLAGS = ["-std=c++17", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off"]
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]


def build(folder: Path) -> Path:
    """Compile the extension into `folder`, where the driver is (`build_driver`), and return its path."""
    import pybind11

    include = [HERE, pybind11.get_include(), sysconfig.get_paths()["include"]]
    arguments = [*FLAGS, *WARNINGS, *(f"-I{path}" for path in include)]

    def compile_one(source: Path) -> Path:
        target = folder / f"{source.name}.o"
        # Kernels take the time of tests; what only binds takes that of the compiler.
        level = "-O2" if source.suffix == ".cu" else "-O0"
        subprocess.run(["c++", *arguments, level, "-x", "c++", "-c", source, "-o", target], check=True)
        return target

    sources = sorted([*SOURCES.glob("*.cpp"), *SOURCES.glob("*.cu")], key=lambda path: -path.stat().st_size)
    with ThreadPoolExecutor(2) as executor:
        objects = list(executor.map(compile_one, sources))
    extension = folder / "_cuda.so"
    driver = [f"-L{folder}", "-l:libcuda.so.1", "-Wl,-rpath,$ORIGIN"]
    subprocess.run(["c++", "-shared", *objects, *driver, "-o", extension], check=True)
    return extension


def build_driver(folder: Path) -> Path:
    """Compile libcuda.so.1 into `folder`: with that in LD_LIBRARY_PATH, cuda-bindings find the emulated GPU."""
    library = folder / "libcuda.so.1"
    shared = ["-shared", f"-Wl,-soname,{library.name}"]
    flags = [flag for flag in FLAGS if flag != "-fvisibility=hidden"]
    subprocess.run(["c++", *flags, *WARNINGS, *shared, HERE / "driver.cpp", "-o", library], check=True)
    return library
