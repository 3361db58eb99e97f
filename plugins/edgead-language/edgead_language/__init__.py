"""Plug-in of edgead for descriptions of rejects by a language model that sees images, which never decides."""
