"""Kinds of rejects: rejects are described, sorted without a label, and their kinds named and kept in a model."""
