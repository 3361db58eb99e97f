"""Build of edgead-kernels: the kernels and edgead/kernels as the package edgead_kernels, which needs only numpy."""

import re
import runpy
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parents[2]
PYTHON = [ROOT / "edgead/errors.py", ROOT / "edgead/_native.pyi", ROOT / "edgead/py.typed"]


class Build(build_ext):
    """Copies the Python files under their new name, and compiles edgead_kernels._native by CMake."""

    def build_extension(self, ext: Extension) -> None:
        import pybind11  # a build requirement: absent when only metadata is asked for

        package = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        package.mkdir(parents=True, exist_ok=True)
        for file in [*PYTHON, *(ROOT / "edgead/kernels").glob("*.py")]:
            text = re.sub(r"\bedgead\.kernels\b", "edgead_kernels", file.read_text())
            text = re.sub(r"\bedgead\.(errors|_native|_cuda)\b", r"edgead_kernels.\1", text)
            (package / file.name).write_text(text)
        build = Path(self.build_temp).resolve()
        configure = [
            f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={package}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            "-DCMAKE_BUILD_TYPE=Release",
        ]
        subprocess.run(["cmake", "--fresh", "-S", ROOT, "-B", build, "-G", "Ninja", *configure], check=True)
        subprocess.run(["cmake", "--build", build], check=True)


setup(
    ext_modules=[Extension("edgead_kernels._native", sources=[])],
    cmdclass={"build_ext": Build, "egg_info": runpy.run_path(str(ROOT / "setup.py"))["Page"]},
)
