"""Build of edgead: CMake for edgead._native, the README for an index. All else is in pyproject.toml."""

import os
import posixpath
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.egg_info import egg_info

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


class Page(egg_info):
    """Metadata with a README for an index, where links of a clone lead nowhere: each is an address of the repository.

    Other packages of this repository take it from here.
    """

    def finalize_options(self) -> None:
        super().finalize_options()
        about = self.distribution.metadata
        name = f"v{about.version}" if re.fullmatch(r"[\d.]+", about.version) else "main"
        place = Path(os.path.relpath(Path.cwd(), HERE)).as_posix()

        def whole(link: re.Match[str]) -> str:
            target = posixpath.normpath(posixpath.join(place, link[3]))
            return f"{link[1]}{about.project_urls['Repository']}/{'raw' if link[2] else 'blob'}/{name}/{target})"

        parts = re.split(r"(^```.*?^```$)", about.long_description, flags=re.MULTILINE | re.DOTALL)
        parts[::2] = [re.sub(r"((?:(!)\[[^][]*)?\]\()(?![a-z]+:|#)([^)\s]+)\)", whole, part) for part in parts[::2]]
        about.long_description = "".join(parts)


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


if __name__ == "__main__":
    in_place = "editable_wheel" in sys.argv and links_export()
    native = [] if os.environ.get("EDGEAD_NATIVE") == "0" else [Extension("edgead._native", sources=[])]
    setup(
        packages=sorted({*find_packages(include=["edgead*"]), "edgead.export"}),
        package_dir={"": "."} if in_place else {"edgead.export": "export"},
        ext_modules=native,
        cmdclass={"build_ext": CMakeBuild, "egg_info": Page},
    )
