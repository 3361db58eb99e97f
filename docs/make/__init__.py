"""Generators of the site's reference pages, from the code itself. `mkdocs.yml` names `hook.py`."""
