"""Lessons from the page: marked parts, taught to a copy of a model; rejects, sorted and named in it."""
