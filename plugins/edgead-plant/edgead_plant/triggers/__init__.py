"""Triggers of judgements, each registered by its module."""
