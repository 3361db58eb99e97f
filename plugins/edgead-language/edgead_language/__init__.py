"""Descriptions of rejects by a language model that sees images, for edgead: opinions beside facts, never decisions."""
