"""Hook of `mkdocs.yml`: adds the pages generated from the code, and refuses pages that load from other hosts.

Pages have links for a clone of the repository; the hook rewrites links to files that the site has elsewhere. Instead of
a generated page, a clone has a short page that says how to generate it.
"""

from __future__ import annotations

import posixpath
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

from docs.make import commands, detectors, http_api, python_api, records, site_file  # noqa: E402
from edgead.line.site.reference import reference  # noqa: E402

# What lies elsewhere in the repository, and where the site has it.
MOVED = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/RESULTS.md": "results.md",
}
GENERATED: dict[str, Callable[[], str]] = {
    "reference/cli.md": commands.page,
    "reference/detectors.md": detectors.page,
    "reference/site-file.md": site_file.page,
    "reference/components.md": lambda: reference(own=True),
    "reference/http-api.md": http_api.page,
    "reference/metrics.md": http_api.metrics_page,
    "reference/record.md": records.record_page,
    "reference/modbus.md": records.modbus_page,
    "reference/database.md": records.database_page,
    "reference/manifest.md": records.manifest_page,
    "reference/python.md": python_api.page,
}
# A tag that makes a browser load something; links that a reader clicks are no such thing.
_LOADS = re.compile(
    r"""<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\bsrc=["']?(?:https?:)?//[^>]*>"""
    r"""|<link\b(?=[^>]*rel=["']?(?:stylesheet|preload|preconnect|dns-prefetch|icon))[^>]*href=["']?(?:https?:)?//[^>]*>"""
)


def moved(name: str) -> str:
    """Return the text of a page from elsewhere in the repository, with links for the site."""
    return site_links((ROOT / name).read_text(encoding="utf-8"), name, MOVED[name])


def site_links(text: str, name: str, place: str) -> str:
    """Rewrite a text's links from its path `name` in the repository to its path `place` in the site."""

    def link(match: re.Match[str]) -> str:
        target, hash_, anchor = match[2].partition("#")
        if not target or "://" in target:
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
        there = posixpath.relpath(MOVED.get(path, path.removeprefix("docs/")), posixpath.dirname(place) or ".")
        return f"{match[1]}{there}{hash_}{anchor}{match[3]}"

    text = re.sub(r"(\]\()([^)\s]+)(\))", link, text)
    return re.sub(r'(src=")([^"]+)(")', link, text)


def pages() -> dict[str, str]:
    """Return all generated pages by their path in the site."""
    return {MOVED[name]: moved(name) for name in MOVED} | {place: make() for place, make in GENERATED.items()}


def on_files(files: Any, config: Any) -> Any:
    from mkdocs.structure.files import File

    for place, text in pages().items():
        if written := files.get_file_from_path(place):  # for who reads it in a clone
            files.remove(written)
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    place = page.file.src_uri
    return markdown if page.file.generated_by else site_links(markdown, f"docs/{place}", place)


def on_post_page(output: str, page: Any, config: Any) -> str:
    from mkdocs.exceptions import PluginError

    if found := _LOADS.search(output):
        raise PluginError(f"{page.file.src_uri} loads from another host: {found[0]}")
    return output
