"""Layouts of data sets as their authors and tools publish them: one small reader each, all in one table."""
