"""Verbs that need a site, its daemon or its evidence store."""
