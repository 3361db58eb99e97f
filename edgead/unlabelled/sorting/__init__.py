"""Kinds of rejects: description, sorting without labels, and names that are kept in a model."""
