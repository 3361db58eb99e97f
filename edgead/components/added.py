"""Look-up of classes by name: edgead's own, and classes that other packages add by entry points."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any, TypeVar

from edgead.errors import SettingsError, suggestion
from edgead.process.installation import comes_with
from edgead.version import __version__

C = TypeVar("C")


def load_entry(entry: EntryPoint) -> Any:
    """Import what an entry point names, if the requirements of its package allow this version of edgead.

    Raises SettingsError: the package is for other versions.
    """
    if package := entry.dist:
        from packaging.requirements import Requirement  # takes 10 ms, for which a start without plug-ins need not wait

        for needed in map(Requirement, package.requires or ()):
            applies = needed.name == "edgead" and (needed.marker is None or needed.marker.evaluate({"extra": ""}))
            if applies and not needed.specifier.contains(__version__, prereleases=True):
                fits = f"{package.name} {package.version} needs edgead {needed.specifier}"
                raise SettingsError(f"{fits}, and this is edgead {__version__}: install both in the same version")
    return entry.load()


class Added(Mapping[str, C]):
    """Mapping from names to classes, edgead's own first, then other packages'; it imports a class on access.

    `group`: group of entry points with the form `NAME = "module:Class"`.
    `noun`: word for such a class in errors.
    `own`: names of edgead's own classes, which cannot be replaced, with their `module:Class`.
    `beside`: further names that edgead knows but that are no classes, to list in errors.
    `gone`: names of earlier versions, with the text of the error for each.
    """

    def __init__(
        self,
        group: str,
        noun: str,
        own: Mapping[str, str],
        beside: tuple[str, ...] = (),
        gone: Mapping[str, str] = MappingProxyType({}),
    ):
        self.group, self.noun, self.own, self._beside, self._gone = group, noun, own, beside, gone

    def __getitem__(self, name: str) -> C:
        if name not in self.own:
            return load_entry(self._entries()[name])  # type: ignore[no-any-return]  # what other packages name
        module, _, of_class = self.own[name].partition(":")
        return getattr(import_module(module), of_class)  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[str]:
        return iter((*self.own, *sorted(self._entries())))

    def __len__(self) -> int:
        return len(self.own) + len(self._entries())

    def places(self) -> dict[str, str]:
        """Map each name to its `module:Class`, without importing any class."""
        return {**self.own, **{name: entry.value for name, entry in sorted(self._entries().items())}}

    def find(self, name: str) -> C:
        """Look a class up.

        Raises SettingsError: the name is unknown (the message lists the known ones, or names the package that has it),
            or another package's class cannot be imported, or has a different `name`.
        """
        self.check(name)
        try:
            found = self[name]
        except Exception as error:
            if name in self.own:
                raise
            where = self._entries()[name].value
            raise SettingsError(f"{self.noun} {name} of {where} cannot be imported: {error}") from error
        if getattr(found, "name", name) != name:  # by which what it makes would be looked up later
            where = self._entries()[name].value
            raise SettingsError(f"the name of {where} is {found.name!r}: its entry point must have the same")  # type: ignore[attr-defined]
        return found

    def check(self, name: str) -> None:
        """Raise SettingsError for an unknown name, as `find` does, without importing anything."""
        if name not in tuple(self):
            known = (*self._beside, *self)
            said = f"unknown {self.noun} {name!r}: choose one of {', '.join(known)}{suggestion(name, known)}"
            raise SettingsError(comes_with(self.group, name) or self._gone.get(name, said))

    def _entries(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in entry_points(group=self.group) if entry.name not in self.own}
