"""Version of edgead."""

__version__ = "0.1.0"
