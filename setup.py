"""Builds edgead._native: runs CMake once; names what a device installs. All else is in pyproject.toml."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

# torch and onnx must never appear here: a device has neither the space nor the need.
DEPENDENCIES = [
    "jinja2>=3.1",
    "numpy>=1.26",
    "onnxruntime>=1.19",
    "pydantic>=2.10",
    "pyyaml>=6.0.2",
    "rich>=13.7",
    "typer>=0.26",
]
# OpenCV before 4.10.0.84 does not run with NumPy 2, and 4.11 lets FFmpeg fetch playlists, whatever formats it may read.
OPENCV = "opencv-python-headless>=4.10.0.84,!=4.11.*"
HERE = Path(__file__).resolve().parent
NO_COMPILER = """
edgead compiles its kernels and found no C++20 compiler. Install one (Debian: apt install g++) or name one
in CXX. To install without native code (numpy kernels, far slower), set EDGEAD_NATIVE=0."""
NO_HEADERS = """
edgead compiles its kernels and found no headers of this Python. Install them (Debian: apt install python3-dev). To
install without native code (numpy kernels, far slower), set EDGEAD_NATIVE=0."""


class CMakeBuild(build_ext):
    def build_extension(self, ext: Extension) -> None:
        if not any(map(shutil.which, filter(None, [os.environ.get("CXX"), "c++", "g++", "clang++"]))):
            raise SystemExit(NO_COMPILER)
        if not Path(sysconfig.get_path("include"), "Python.h").exists():
            raise SystemExit(NO_HEADERS)
        import pybind11  # a build requirement: absent when only metadata is asked for

        build = Path(self.build_temp).resolve()
        configure = [
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={Path(self.get_ext_fullpath(ext.name)).resolve().parent}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            "-DCMAKE_BUILD_TYPE=Release",
            f"-DEDGEAD_CUDA={'ON' if os.environ.get('EDGEAD_CUDA') == '1' else 'OFF'}",
        ]
        # --fresh: pip builds in a new environment each time, and a cache would still name the last one's ninja.
        subprocess.run(["cmake", "--fresh", "-S", HERE, "-B", build, "-G", "Ninja", *configure], check=True)
        subprocess.run(["cmake", "--build", build], check=True)


def has_other_opencv() -> bool:
    """Whether the environment has an OpenCV of another name: the board's own, or another package's.

    All of them are the module cv2, and the requirement would put its own over that one. Isolated (-I), for pip
    hides the environment that it installs into from a build. Front ends that build elsewhere (build, uv) hide it
    altogether: docs/how-to/install.md says what to do there, and for wheels.
    """
    look = "import cv2, importlib.metadata as m; m.version('opencv-python-headless')"
    found = subprocess.run([sys.executable, "-I", "-c", look], capture_output=True, text=True)
    return "PackageNotFoundError" in found.stderr


def links_export() -> bool:
    """Link export/ to its place inside the package, for use in place; false where there can be no link.

    A package that lies where its name says is used in place by a path alone. Setuptools would import any other by a
    hook, which runs but hides the whole package from mypy, pyright and editors.
    """
    link = HERE / "edgead" / "export"
    try:
        link.is_symlink() or link.symlink_to(Path("..", "export"), target_is_directory=True)
    except OSError:  # Windows, for those who may not; a file system without links
        return False
    return True


in_place = "editable_wheel" in sys.argv and links_export()
native = [] if os.environ.get("EDGEAD_NATIVE") == "0" else [Extension("edgead._native", sources=[])]
setup(
    packages=sorted({*find_packages(include=["edgead*"]), "edgead.export"}),
    package_dir={"": "."} if in_place else {"edgead.export": "export"},
    ext_modules=native,
    cmdclass={"build_ext": CMakeBuild},
    install_requires=DEPENDENCIES if has_other_opencv() else [*DEPENDENCIES, OPENCV],
)
