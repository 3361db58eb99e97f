"""Installation of this edgead: its source, and the commands that install more of it in this environment."""

from __future__ import annotations

import json
import os
import shutil
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from shlex import quote
from urllib.parse import urlsplit

# Components of this repository's plug-ins, by groups of entry points, each with its package and the extra it needs.
_FOUNDATION = "anomaly_clip crane filo metauas inp_former"
_PLUGINS = {
    "edgead.defects": {"seas": "edgead-diffusion", "anogen": "edgead-diffusion"},
    "edgead.heads": {"area_opened": "edgead-reconstruction"},
    "edgead.methods": {
        **dict.fromkeys(_FOUNDATION.split(), "edgead-foundation"),
        **dict.fromkeys(("strega", "obscure", "ear", "fader"), "edgead-reconstruction"),
        "memoryout": "edgead-video",
        **dict.fromkeys(("mc4ad", "lsfa"), "edgead-height"),
    },
    "edgead.screeners": {"musc": "edgead-foundation"},
    "edgead.sinks": {
        "s7": "edgead-plant[s7]",
        "ethernet_ip": "edgead-plant[ethernet-ip]",
        "opcua": "edgead-plant[opcua]",
        "sparkplug": "edgead-plant[sparkplug]",
        "gpio": "edgead-plant[gpio]",
        "otel": "edgead-tracking[otel]",
    },
    "edgead.sources": {
        **dict.fromkeys(("strips", "strips+camera", "strips+rtsp"), "edgead-video"),
        "stereo": "edgead-height",
    },
    "edgead.sorters": {"anomaly_ncd": "edgead-foundation"},
    "edgead.trackers": {name: f"edgead-tracking[{name}]" for name in ("tensorboard", "mlflow")},
    "edgead.triggers": {
        "s7": "edgead-plant[s7]",
        "ethernet_ip": "edgead-plant[ethernet-ip]",
        "gpio": "edgead-plant[gpio]",
    },
    "edgead.verbs": {
        "describe": "edgead-language",
        "heights": "edgead-height",
        "tune": "edgead-tune",
        "video": "edgead-video",
        "weights": "edgead-foundation",
    },
}


def install_command(extra: str) -> str:
    """Return the command that installs an extra's packages: from the checkout that edgead came from, or by name.

    >>> install_command("daemon")  # doctest: +SKIP
    ".venv/bin/pip install --editable '.[daemon]'"
    """
    checkout, editable = _checkout()
    if checkout is None:
        return f"{command_path('pip')} install 'edgead[{extra}]'"
    here = "." if checkout == Path.cwd() else str(checkout)
    return f"{command_path('pip')} install {'--editable ' if editable else ''}'{here}[{extra}]'"


def plugin_command(package: str) -> str:
    """Return the command that installs a plug-in, `NAME` or `NAME[EXTRA]`: from edgead's checkout or by name."""
    checkout, _ = _checkout()
    where = package if checkout is None else f"{'.' if checkout == Path.cwd() else checkout}/plugins/{package}"
    return f"{command_path('pip')} install {quote(where)}"


def comes_with(group: str, name: str) -> str | None:
    """Return a sentence that names the plug-in of this repository with a component, and its install command, or None.

    `group`: group of entry points, such as `edgead.sinks`.
    `name`: name of the component in that group.
    """
    package = _PLUGINS.get(group, {}).get(name)
    return package and f"{name} comes with {package.partition('[')[0]}: {plugin_command(package)}"


def of_plugins(group: str) -> dict[str, str]:
    """Map the components of this repository's plug-ins, installed or not, to their packages."""
    return {name: package.partition("[")[0] for name, package in _PLUGINS.get(group, {}).items()}


def command_path(name: str) -> str:
    """Return the name of a command of this Python's environment, or its path if the name would not find it."""
    beside = Path(sys.executable).with_name(name)
    found = shutil.which(name)
    if not beside.is_file() or (found is not None and os.path.abspath(found) == str(beside)):
        return name
    return str(beside.relative_to(Path.cwd())) if beside.is_relative_to(Path.cwd()) else str(beside)


def _checkout() -> tuple[Path | None, bool]:
    """Return the checkout that edgead was installed from, or None, and whether the installation is editable."""
    from urllib.request import url2pathname  # which imports http: a misspelt verb need not wait for it

    try:
        record = json.loads(distribution("edgead").read_text("direct_url.json") or "{}")
    except PackageNotFoundError:  # imported from a checkout that was never installed
        beside = Path(__file__).resolve().parents[2]
        return (beside if (beside / "pyproject.toml").is_file() else None), True
    address = urlsplit(record.get("url", ""))
    folder = Path(url2pathname(address.path))
    if address.scheme != "file" or "dir_info" not in record or not (folder / "pyproject.toml").is_file():
        return None, False
    return folder, bool(record["dir_info"].get("editable"))
