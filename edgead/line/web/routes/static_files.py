"""Files of the operator's page and of the API's documentation, all from the package."""

from __future__ import annotations

import os
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from starlette.staticfiles import StaticFiles

_FOLDER = Path(__file__).parents[1] / "page"


def add(app: FastAPI) -> None:
    """Serve the page under /, the API's documentation under /docs, and their files."""

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(_FOLDER / "index.html")

    @app.get("/docs", include_in_schema=False)
    def docs() -> FileResponse:
        return FileResponse(_FOLDER / "docs.html")

    @app.get("/page/words", include_in_schema=False)
    def languages() -> list[str]:
        return sorted(table.stem for table in (_FOLDER / "words").glob("*.json"))

    app.mount("/page", _Files(directory=_FOLDER), name="page")


class _Files(StaticFiles):
    def lookup_path(self, path: str) -> tuple[str, os.stat_result | None]:
        """Find a file, but none for a name with a NUL character, at which earlier versions of Starlette fail."""
        return ("", None) if "\0" in path else super().lookup_path(path)
