"""Sinks of verdicts, each registered by its module."""
