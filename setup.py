"""Builds edgead._native: runs CMake once. Everything else about the package is in pyproject.toml."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent
NO_COMPILER = """
edgead compiles its kernels and found no C++20 compiler. Install one (Debian: apt install g++) or name one
in CXX. To install without native code (numpy kernels, far slower), set EDGEAD_NATIVE=0."""


class CMakeBuild(build_ext):
    def build_extension(self, ext: Extension) -> None:
        if not any(map(shutil.which, filter(None, [os.environ.get("CXX"), "c++", "g++", "clang++"]))):
            raise SystemExit(NO_COMPILER)
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


native = [] if os.environ.get("EDGEAD_NATIVE") == "0" else [Extension("edgead._native", sources=[])]
# find_packages follows edgead/export, which is a link to export/.
setup(packages=find_packages(include=["edgead*"]), ext_modules=native, cmdclass={"build_ext": CMakeBuild})
