"""Lessons from the page: marked parts, taught to a copy of a model."""
