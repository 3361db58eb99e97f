"""Verbs of the command, by purpose. A verb's module is imported only when the verb is called, as imports take time.

`edgead --help`, `--version` and a misspelt verb import none of them. Plug-ins add verbs by entry points.
"""

from __future__ import annotations

import ast
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from edgead.cli.examples import EXAMPLES
from edgead.components.added import load_entry
from edgead.errors import SettingsError
from edgead.process.installation import comes_with, of_plugins

FIRST, PLUGINS = "first", "plugins"
VERBS = {
    FIRST: {
        "doctor": "device",
        "demo": "device",
        "studio": "line.studio",
        "train": "train",
        "predict": "device",
        "eval": "device",
        "calibrate": "calibrate",
        "teach": "teach",
        "stream": "device",
        "daemon": "line.daemon",
    },
    "make": {
        "data": "data",
        "presets": "presets",
        "screen": "screen",
        "commission": "commission",
        "cycle": "cycle",
        "defects": "defects",
        "import": "import_model",
        "export": "workstation",
    },
    "measure": {"report": "device", "verify": "workstation", "profile": "profile", "engine": "device"},
    "kinds": {"sort": "sort", "name": "sort"},
    "line": {"user": "line.user", "evidence": "line.evidence", "audit": "line.audit"},
    "devices": {
        "push": "push_pull",
        "pull": "push_pull",
        "fleet": "line.fleet",
        "key": "sign",
        "sign": "sign",
        "verify-signature": "sign",
    },
}
"""File of each verb, by groups: the first week in the order of use, then those that `edgead help GROUP` lists."""
GROUPS = {
    FIRST: "The first week",
    "make": "Other ways to a model, and other forms of one",
    "measure": "Reports, proofs and times",
    "kinds": "Names for the kinds of rejects",
    "line": "People and records of a line",
    "devices": "Models to many devices, and whom to trust",
    PLUGINS: "Plug-ins",
}
ELSEWHERE = {
    "golden": "edgead train GOLDEN_PARTS -o model --detector golden",
    "auto": "edgead train GOOD_IMAGES -o model --preset auto",
    "serve": "edgead daemon -c site.yaml",
    "start": "edgead studio",
}
"""Commands that do what people look for under these verbs."""
GROUP = "edgead.verbs"
"""Group of entry points `VERB = "module"`, whose module registers the verb with `edgead.cli.app.app`."""
_FILES = {verb: file for verbs in VERBS.values() for verb, file in verbs.items()}


class VerbGroup(TyperGroup):
    """The command `edgead`; until a verb is called, it knows only the verb's name and summary."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.imported = self.commands
        self.commands = {
            verb: TyperCommand(verb, rich_help_panel=GROUPS[group]) for group, verbs in VERBS.items() for verb in verbs
        }
        self._group = FIRST  # that the help lists

    def load(self, verb: str) -> Any:
        """Import a verb, edgead's own or a plug-in's, and return its command; the verb must exist."""
        module = import_module(f"{__package__}.{_FILES[verb]}") if verb in _FILES else _load(_added()[verb])
        group = typer.main.get_group(module.app)
        assert isinstance(group, VerbGroup)
        command = group.imported[verb]
        if verb in EXAMPLES:
            command.epilog = "\n\n".join(("Examples:", *EXAMPLES[verb]))
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] == "help":
            self._show_help(ctx, *args[1:2])
        if args[0] in ELSEWHERE:
            raise SettingsError(f"{args[0]} is no verb of its own: `{ELSEWHERE[args[0]]}`")
        if args[0] in _FILES or args[0] in _added():
            self.commands[args[0]] = self.load(args[0])
        elif missing := comes_with(GROUP, args[0]):
            raise SettingsError(missing)
        return super().resolve_command(ctx, args)

    def _show_help(self, ctx: Any, topic: str = FIRST) -> None:
        """Print the verbs of a group, or the help of a verb, and exit."""
        if topic not in GROUPS:
            ctx.invoke(self.main, [topic, "--help"], prog_name=ctx.command_path)
        self._group = topic
        print(ctx.get_help())
        raise typer.Exit()

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self._summarize()
        every = self.commands
        by_group = {group: [*verbs] for group, verbs in VERBS.items()}
        by_group[PLUGINS] = [verb for verb in every if verb not in _FILES]
        self.commands = {verb: every[verb] for verb in by_group[self._group]}
        if self._group == FIRST:
            for group in (group for group in by_group if group != FIRST):
                line = f"{GROUPS[group]}: {', '.join(by_group[group])}"
                self.commands[f"help {group}"] = TyperCommand(f"help {group}", help=line, rich_help_panel="More")
        super().format_help(ctx, formatter)
        self.commands = every

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:
        self._summarize()
        return super().shell_complete(ctx, incomplete)

    def _summarize(self) -> None:
        own = (Path(__file__).parent.joinpath(*file.split(".")).with_suffix(".py") for file in set(_FILES.values()))
        found = {verb: text for file in own for verb, text in _summaries(file).items()}
        plugins = {verb: f"Comes with {package}, not installed." for verb, package in of_plugins(GROUP).items()}
        plugins |= {verb: _summary_of(entry) for verb, entry in _added().items()}
        for verb in sorted(plugins):
            self.commands.setdefault(verb, TyperCommand(verb, rich_help_panel=GROUPS[PLUGINS]))
        for verb, command in self.commands.items():
            command.help = command.help or {**found, **plugins}[verb]


def _added() -> dict[str, EntryPoint]:
    """Map the verbs of installed plug-ins to their entry points, without verbs that edgead has itself."""
    return {entry.name: entry for entry in entry_points(group=GROUP) if entry.name not in _FILES}


def _load(entry: EntryPoint) -> Any:
    """Import the module of a plug-in's verb; raise SettingsError if that fails."""
    try:
        return load_entry(entry)
    except ModuleNotFoundError:  # `main` says how to install the missing package
        raise
    except Exception as error:
        raise SettingsError(f"the verb {entry.name} of {entry.value} cannot be imported: {error}") from error


def _summary_of(entry: EntryPoint) -> str:
    """Read the summary of a plug-in's verb from its source, without importing the plug-in."""
    package, *inner = entry.module.split(".")
    spec = find_spec(package)
    files = [Path(folder, *inner).with_suffix(".py") for folder in (spec and spec.submodule_search_locations) or ()]
    if spec and spec.origin and not inner:
        files = [Path(spec.origin)]
    try:
        return next((_summaries(file).get(entry.name, "") for file in files if file.is_file()), "")
    except (SyntaxError, ValueError) as error:  # of others; without it there would be no help at all
        return f"{entry.module} cannot be read: {error}"


def _summaries(file: Path) -> dict[str, str]:
    """Read the summaries of a file's verbs from its source, without importing it."""
    found = {}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef):
            calls = [call for call in node.decorator_list if isinstance(call, ast.Call)]
            named = [_constant(call, "name") for call in calls if ast.unparse(call.func) == "app.command"]
            if named:
                found[named[0] or node.name] = " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):  # verbs below a verb
            found[ast.unparse(node.targets[0])] = _constant(node.value, "help") or ""
    return found


def _constant(call: ast.Call, name: str) -> str | None:
    return next((ast.literal_eval(keyword.value) for keyword in call.keywords if keyword.arg == name), None)
