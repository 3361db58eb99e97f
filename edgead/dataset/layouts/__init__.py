"""Readers of data set layouts, as authors and tools publish them: one reader for each layout, collected in a table."""
