"""Registry of each kind of component: built-in ones from edgead's modules, others from Python entry points."""

from __future__ import annotations

import importlib
import logging
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any, Generic, Literal, TypeVar, Union

from pydantic import Field, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema

from edgead.components.added import load_entry
from edgead.components.options import Section, option_names, read_query
from edgead.components.uri import know_schemes
from edgead.errors import SettingsError, tell_invalid
from edgead.process.installation import comes_with

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Component:
    """Registration of a component: its name, options and URI schemes.

    `name`: name that users write: `kind:` in the site file, `--runtime`.
    `options`: model of its options, with bounds, defaults and descriptions; its docstring's first line is `summary`.
    `schemes`: URI schemes that stand for it, each with an example: `{"mqtt": "mqtt://HOST/TOPIC"}`.
    """

    name: str
    options: type[Section]
    schemes: Mapping[str, str]

    @property
    def summary(self) -> str:
        """One-line description: the first line of its options' docstring."""
        return (self.options.__doc__ or "").strip().partition("\n")[0]

    def read(self, values: Mapping[str, Any], shown: str) -> Any:
        """Validate texts or values into the component's options.

        Raises SettingsError: a value does not fit; the message begins with `shown`, and omits values, which may be
            secrets.
        """
        try:
            return self.options.model_validate(values)
        except ValidationError as error:
            raise SettingsError(f"{shown}: {tell_invalid(error.errors(), whole='options')}") from None


C = TypeVar("C", bound=Component)


class Registry(Generic[C]):
    """Registry of the components of one kind; it imports the modules that define them at the first look-up.

    `kind`: kind in the singular; entry points of the group `edgead.{kind}s` name modules of other packages.
    `builtin`: modules of edgead that register components of this kind; they import nothing heavy.
    """

    def __init__(self, kind: str, builtin: tuple[str, ...]):
        self.kind = kind
        self._builtin = builtin
        self._components: dict[str, C] = {}
        self._loading = threading.RLock()
        self._has_builtin = self._has_others = False
        self.left_out: dict[str, str] = {}  # entry points of others that cannot be used, and why

    def add(self, component: C) -> None:
        """Register a component; modules do that when they are imported.

        Raises SettingsError: its name or one of its schemes is taken, or its options cannot be used.
        """
        if not issubclass(component.options, Section):
            raise SettingsError(f"{component.name}: its options must be a subclass of edgead's Section")
        taken = {scheme for known in self._components.values() for scheme in known.schemes}
        if component.name in self._components:
            raise SettingsError(f"a {self.kind} named {component.name!r} is there already: choose another name")
        for scheme in component.schemes.keys() & taken:
            raise SettingsError(f"{scheme}: belongs to another {self.kind} already: choose another scheme")
        # Another thread may go through the table meanwhile.
        self._components = {**self._components, component.name: component}
        know_schemes(component.schemes)

    def all(self) -> Mapping[str, C]:
        """Return all components by their names, built-in ones first."""
        with self._loading:
            self._load_builtin()
            self._load_others()
            return self._ordered()

    def builtin(self) -> Mapping[str, C]:
        """Return edgead's own components by their names."""
        with self._loading:
            self._load_builtin()
            return {name: known for name, known in self._ordered().items() if self._is_own(known)}

    def named(self, name: str) -> C | None:
        """Find a component by name, or None; import built-in modules in order until one has it, then plug-ins."""
        with self._loading:
            for module in self._builtin:
                if name in self._components:
                    break
                importlib.import_module(module)
            if name not in self._components:
                self._load_others()
            return self._components.get(name)

    def of_scheme(self, scheme: str) -> C | None:
        """Find the component of a URI scheme, or None; plug-ins are imported only if no built-in one has it."""
        with self._loading:
            self._load_builtin()
            if self._of_scheme(scheme) is None:
                self._load_others()
            return self._of_scheme(scheme)

    def examples(self) -> str:
        """Return a text with an example of every scheme, for help and errors."""
        return ", ".join(example for component in self.all().values() for example in component.schemes.values())

    def _is_own(self, component: C) -> bool:
        return component.options.__module__ in self._builtin

    def _ordered(self) -> dict[str, C]:
        """Return the components in the order of the built-in modules, not of their import; then plug-ins, by name."""

        def place(item: tuple[str, C]) -> tuple[int, str]:
            name, known = item
            if self._is_own(known):
                return self._builtin.index(known.options.__module__), ""
            return len(self._builtin), name

        return dict(sorted(self._components.items(), key=place))

    def _of_scheme(self, scheme: str) -> C | None:
        return next((component for component in self._components.values() if scheme in component.schemes), None)

    def _load_builtin(self) -> None:
        if not self._has_builtin:
            for module in self._builtin:
                importlib.import_module(module)
            self._has_builtin = True

    def _load_others(self) -> None:
        if not self._has_others:
            self._has_others = True
            for entry in entry_points(group=f"edgead.{self.kind}s"):
                self._load(entry)

    def _load(self, entry: EntryPoint) -> None:
        before, known_already = self._components, entry.module in sys.modules
        try:
            load_entry(entry)
        except Exception as error:  # noqa: BLE001  the edge to other people's code: the others are still there
            self._components = before
            what = str(error) if isinstance(error, SettingsError) else f"{type(error).__name__}: {error}"
            self._leave_out(entry, what)
        else:
            if self._components is before and not known_already:
                self._leave_out(entry, f"it registers no {self.kind}")

    def _leave_out(self, entry: EntryPoint, why: str) -> None:
        self.left_out[entry.name] = why
        place = f"{entry.name} = {entry.value} (edgead.{self.kind}s)"
        logger.warning("entry point %s cannot be used and is left out: %s", place, why)


def check_kind(name: str, options: type[Section]) -> None:
    """Raise SettingsError unless options can be distinguished in the site file: `kind: Literal[name]`."""
    field = options.model_fields.get("kind")
    if field is None or field.annotation != Literal[name]:  # type: ignore[valid-type]  # known only now
        raise SettingsError(f"{name}: its options must have a field `kind: Literal[{name!r}]`")


class OneOf:
    """Annotation of a site-file field that takes the options of any registered component, distinguished by `kind`."""

    def __init__(self, registry: Registry[Any]):
        self._registry = registry

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        choices = tuple(component.options for component in self._registry.all().values())
        schema = handler.generate_schema(Annotated[Union[choices], Field(discriminator="kind")])  # noqa: UP007
        return core_schema.no_info_before_validator_function(self._here, schema)

    def _here(self, value: Any) -> Any:
        """Return the value unchanged; raise ValueError if its `kind` comes with a plug-in that is not installed."""
        kind = value.get("kind") if isinstance(value, Mapping) else None
        if isinstance(kind, str) and kind not in self._registry.all():
            if missing := comes_with(f"edgead.{self._registry.kind}s", kind):
                raise ValueError(missing)
        return value


def read_options(component: Component, query: str, shown: str) -> Any:
    """Read the options of a component from the query of a URI.

    Raises SettingsError: a name is unknown, or a value does not fit.
    """
    try:
        values = read_query(query, option_names(component.options))
    except SettingsError as error:
        raise SettingsError(f"{shown}: {error}") from None
    return component.read(values, shown)
