"""Plug-in of edgead in which a language model that sees images describes rejects; it never decides."""
