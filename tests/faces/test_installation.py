"""Messages name commands that work here: for an edgead from a checkout, and for one from a registry."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgead.process import installation
from edgead.process.installation import comes_with, command_path, install_command

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture
def came_from(monkeypatch, tmp_path):
    """Say what pip has recorded of edgead; the environment is ENV below the folder of the test."""
    (tmp_path / "ENV/bin").mkdir(parents=True)
    for name in ("pip", "edgead"):
        (tmp_path / "ENV/bin" / name).touch(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "ENV/bin/python"))
    monkeypatch.chdir(tmp_path)

    def record(url: str | None, **how):
        text = None if url is None else json.dumps({"url": url, **how})
        monkeypatch.setattr(installation, "distribution", lambda name: SimpleNamespace(read_text=lambda file: text))

    return record


def test_a_checkout_is_installed_again_with_the_extra(came_from, monkeypatch):
    came_from(CHECKOUT.as_uri(), dir_info={"editable": True})
    assert install_command("daemon") == f"ENV/bin/pip install --editable '{CHECKOUT}[daemon]'"
    came_from(CHECKOUT.as_uri(), dir_info={})
    assert install_command("daemon") == f"ENV/bin/pip install '{CHECKOUT}[daemon]'"
    monkeypatch.chdir(CHECKOUT)
    assert install_command("train").endswith("/ENV/bin/pip install '.[train]'")


@pytest.mark.parametrize(
    ("url", "how"),
    [(None, {}), ("https://host/edgead.whl", {"archive_info": {}}), ("file:///no/longer/there", {"dir_info": {}})],
)
def test_what_came_from_elsewhere_is_named(came_from, url, how):
    came_from(url, **how)
    assert install_command("daemon") == "ENV/bin/pip install 'edgead[daemon]'"


def test_a_checkout_that_was_never_installed_is_known_by_its_files(came_from, monkeypatch):
    def missing(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(installation, "distribution", missing)
    assert install_command("daemon") == f"ENV/bin/pip install --editable '{CHECKOUT}[daemon]'"


def test_a_component_of_a_plug_in_is_named_with_its_package(came_from, monkeypatch):
    came_from(None)
    assert (
        comes_with("edgead.defects", "seas") == "seas comes with edgead-diffusion: ENV/bin/pip install edgead-diffusion"
    )
    of_heads = comes_with("edgead.heads", "area_opened")
    assert of_heads == "area_opened comes with edgead-reconstruction: ENV/bin/pip install edgead-reconstruction"
    assert comes_with("edgead.methods", "fader") == of_heads.replace("area_opened", "fader")
    assert comes_with("edgead.sinks", "s7") == "s7 comes with edgead-plant: ENV/bin/pip install 'edgead-plant[s7]'"
    assert (
        comes_with("edgead.sources", "stereo") == "stereo comes with edgead-height: ENV/bin/pip install edgead-height"
    )
    assert comes_with("edgead.verbs", "tune") == "tune comes with edgead-tune: ENV/bin/pip install edgead-tune"
    assert comes_with("edgead.sinks", "seas") is None and comes_with("edgead.nothing", "s7") is None
    came_from(CHECKOUT.as_uri(), dir_info={})
    monkeypatch.chdir(CHECKOUT)
    assert comes_with("edgead.triggers", "gpio").endswith("/ENV/bin/pip install './plugins/edgead-plant[gpio]'")


def test_a_command_on_the_path_needs_no_path(came_from, monkeypatch, tmp_path):
    assert command_path("edgead") == "ENV/bin/edgead"
    monkeypatch.setenv("PATH", str(tmp_path / "ENV/bin"))
    assert command_path("edgead") == "edgead"
    assert command_path("no-such-command") == "no-such-command"
    monkeypatch.chdir(CHECKOUT)
    monkeypatch.setenv("PATH", "")
    assert command_path("edgead") == str(tmp_path / "ENV/bin/edgead")


def used_in_place(source: Path) -> str:
    """What `pip install --editable` puts beside other packages, for a checkout in `source`."""
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, source)
    for name in ("edgead", "export"):
        left_out = shutil.ignore_patterns("__pycache__", "*.so", "export")
        shutil.copytree(CHECKOUT / name, source / name, ignore=left_out, dirs_exist_ok=True)
    code = "import os; os.environ['EDGEAD_NATIVE'] = '0'; import setuptools.build_meta as b; b.build_editable('built')"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = (source / "built").glob("*.whl")
    with zipfile.ZipFile(wheel) as built:
        (name,) = (name for name in built.namelist() if name.endswith(".pth"))
        return built.read(name).decode().strip()


def test_a_checkout_that_is_used_in_place_is_seen_by_type_checkers(tmp_path):
    pytest.importorskip("setuptools", "77", reason="SETUPTOOLS NOT HERE: not built")
    assert used_in_place(tmp_path) == str(tmp_path)  # a folder, as mypy and pyright read it, and no hook
    assert (tmp_path / "edgead" / "export" / "graph.py").samefile(tmp_path / "export" / "graph.py")


def test_where_no_link_can_be_it_is_used_by_a_hook(tmp_path):
    pytest.importorskip("setuptools", "77", reason="SETUPTOOLS NOT HERE: not built")
    (tmp_path / "edgead" / "export").mkdir(parents=True)  # in the link's place
    assert used_in_place(tmp_path).startswith("import ")
