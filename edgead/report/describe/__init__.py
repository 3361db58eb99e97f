"""Descriptions of rejects by a language model that sees images: an opinion beside the facts, never a decision."""
