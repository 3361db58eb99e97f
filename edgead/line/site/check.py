"""Check of a site on this computer: models, local sources of frames, and the page's address."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from edgead.artifact.folder import Artifact
from edgead.errors import EdgeadError
from edgead.files.strict_yaml import YamlFile
from edgead.line.evidence.settings import FOLDER_MODE
from edgead.line.site.address import listen
from edgead.line.site.error_text import Place, dotted
from edgead.line.site.schema import Site
from edgead.line.site.users import check_users
from edgead.sources import check_there


def find_missing(site: Site, file: YamlFile) -> Iterator[str]:
    """Yield a message for each model that cannot be read or is not accepted, and each local source that is missing.

    Network cameras are not checked: they may be switched off while the file is written.

    `file`: file of the site. If a path exists only relative to the working directory, the message says so.
    """
    for name, camera in site.cameras.items():
        try:
            check_there(camera.uri)
        except EdgeadError as error:
            yield _reported(("cameras", name, "uri"), error, file)
    trust = None
    try:
        trust = site.models.open_trust()
    except EdgeadError as error:
        yield _reported(("models",), error, file)
    if site.http is not None and site.http.users is not None:
        try:
            check_users(site.http.users)
        except EdgeadError as error:
            yield _reported(("http", "users"), error, file)
    for name, pipeline in site.pipelines.items():
        models: dict[tuple[str, ...], Path] = {("model",): pipeline.model}
        models |= {("recipes", recipe, "model"): section.model for recipe, section in pipeline.recipes.items()}
        for place, model in models.items():
            if pipeline.commissioned and not model.exists():
                continue  # it waits for one
            try:
                artifact = Artifact.load(model)
                artifact.graph(pipeline.precision)
                pipeline.check_model(artifact)
                if trust is not None:
                    trust.check(artifact)
            except EdgeadError as error:
                yield _reported(("pipelines", name, *place), error, file)


def find_taken(site: Site, file: YamlFile) -> Iterator[str]:
    """Yield a message if the page's address cannot be used, unless a daemon with this store uses it."""
    if site.http is None:
        return
    try:
        listen(site.http).close()
    except EdgeadError as error:
        from edgead.files.folder_lock import FolderLock  # needs fcntl, and a site is checked on Windows too

        try:
            FolderLock(site.store.folder, "", mode=FOLDER_MODE).close()
        except EdgeadError:
            return
        yield _reported(("http",), error, file)


def _reported(place: Place, error: EdgeadError, file: YamlFile) -> str:
    written = file.content
    for part in place:
        written = written.get(part) if isinstance(written, dict) else None
    hint = ""
    if isinstance(written, str) and Path(written).exists() and not Path(file.path.parent, written).exists():
        hint = f"; relative paths start from the site file: write {Path(written).absolute()}"
    return f"{file.where(place)}: {dotted(place)}: {error}{hint}"
