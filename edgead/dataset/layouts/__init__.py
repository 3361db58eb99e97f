"""Readers of data set layouts, as authors and tools publish them: one for each, collected in a table."""
