"""Pages from templates: one file that loads nothing; every value is escaped unless it is HTML already."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def render_page(package: str, template: str, **values: Any) -> str:
    """Fill a template.

    `package`: package whose folder `templates` has the template; it may extend, import and include templates of
        `edgead.html`.
    `template`: name of the template's file.
    `**values`: values for the template's names. `markupsafe.Markup` is HTML and stays as it is, all else is escaped.
    """
    return _environment(package).get_template(template).render(values)


@cache
def _environment(package: str) -> Environment:
    return Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("edgead.html")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
