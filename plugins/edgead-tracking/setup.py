"""README for an index, as edgead makes its own; all else is in pyproject.toml."""

import runpy

from setuptools import setup

setup(cmdclass={"egg_info": runpy.run_path("../../setup.py")["Page"]})
