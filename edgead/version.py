"""Version of edgead: the number that its build wrote beside this file, or the next number where nothing was built."""

import os

try:
    with open(os.path.join(os.path.dirname(__file__), "version.txt"), encoding="ascii") as file:
        __version__ = file.read().strip()
except FileNotFoundError:
    __version__ = "0.2.0.dev0"
