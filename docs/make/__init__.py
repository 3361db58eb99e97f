"""What the site's pages of reference are made of: the code itself. `mkdocs.yml` names `hook.py`."""
