"""A release is whole: one number, a page without dead links, and plug-ins for each that ask for this edgead."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

if sys.version_info < (3, 11):
    tomllib = pytest.importorskip("tomli", reason="before Python 3.11 it reads pyproject.toml")
else:
    import tomllib

ROOT = Path(__file__).parents[2]
PLUGINS = sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))
PACKAGES = [ROOT, ROOT / "csrc" / "wheel", *PLUGINS]
UNRELEASED = "Unreleased"


def described(package: Path) -> dict:
    return tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))


def sections() -> list[str]:
    """The heads of the changelog, newest first: `Unreleased`, or a number and a date."""
    return re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)


def released(heads: Sequence[str]) -> list[Version]:
    return [Version(head.partition(",")[0]) for head in heads if head != UNRELEASED]


def contradiction(number: Version, heads: Sequence[str]) -> str:
    """What the changelog says against a number; nothing where both agree."""
    if number.is_devrelease:
        return "" if heads[0] == UNRELEASED else f"{number} is no release: the changelog begins with {UNRELEASED}"
    if UNRELEASED in heads:
        return f"{number} is a release: the changelog has {UNRELEASED}"
    return "" if number == released(heads)[0] else f"{number} is not the newest of the changelog"


def number_here() -> Version:
    """The number of this checkout or source distribution; in a folder without either, that of its fallback."""
    try:
        command = ["git", "describe", "--tags", "--exact-match", "--match", "v[0-9]*"]
        tag = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        tag = ""
    written = ROOT / "PKG-INFO"
    if not tag and written.is_file():
        tag = re.search(r"^Version: (.+)$", written.read_text(encoding="utf-8"), re.MULTILINE)[1]
    return Version(tag or fallback(ROOT))


def fallback(package: Path) -> str:
    return described(package)["tool"]["setuptools_scm"]["fallback_version"]


@pytest.mark.parametrize(
    ("number", "heads", "agree"),
    [
        ("0.2.0.dev7", [UNRELEASED, "0.1.0, 2026-11-30"], True),
        ("0.2.0.dev7", ["0.1.0, 2026-11-30"], False),
        ("0.2.0", ["0.2.0, 2026-12-24", "0.1.0, 2026-11-30"], True),
        ("0.2.0", [UNRELEASED, "0.2.0, 2026-12-24"], False),
        ("0.2.0", ["0.1.0, 2026-11-30"], False),
    ],
)
def test_a_section_of_what_is_unreleased_and_a_released_number_exclude_each_other(number, heads, agree):
    assert (not contradiction(Version(number), heads)) == agree


def test_the_changelog_is_that_of_this_number():
    assert not contradiction(number_here(), sections())


def test_sources_without_git_have_the_next_number_everywhere():
    heads = sections()
    number = Version(fallback(ROOT))
    assert {fallback(package) for package in PACKAGES} == {str(number)}
    assert f'__version__ = "{number}"' in (ROOT / "edgead" / "version.py").read_text()
    if heads[0] == UNRELEASED:
        assert number.is_devrelease and number > released(heads)[0], "give the next number, with .dev0"
    else:
        assert Version(number.base_version) == released(heads)[0]
    assert released(heads) == sorted(released(heads), reverse=True)


@pytest.mark.slow
def test_every_package_has_the_number_of_git(tmp_path):
    pytest.importorskip("setuptools_scm", reason="NUMBER NOT TESTED: setuptools-scm is not installed")
    copied(tmp_path)
    home = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    home.pop("SETUPTOOLS_SCM_PRETEND_VERSION", None)

    def git(*arguments: str) -> str:
        who = ("-c", "user.name=tests", "-c", "user.email=tests@localhost")
        command = ["git", *who, *arguments]
        return subprocess.run(command, cwd=tmp_path, env=home, check=True, capture_output=True, text=True).stdout

    def number(package: Path = ROOT) -> str:
        command, folder = [sys.executable, "-m", "setuptools_scm"], tmp_path / package.relative_to(ROOT)
        return subprocess.run(command, cwd=folder, env=home, check=True, capture_output=True, text=True).stdout.strip()

    def commit() -> str:
        return f"+g{git('rev-parse', '--short', 'HEAD').strip()}"  # git and its reader may abbreviate differently

    assert number() == number(PLUGINS[0]) == fallback(ROOT)
    (tmp_path / "PKG-INFO").write_text("Metadata-Version: 2.4\nName: edgead\nVersion: 7.8.9\n")
    assert number(PLUGINS[0]) == "7.8.9"  # in a source distribution
    (tmp_path / "PKG-INFO").unlink()
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "one")
    assert number().startswith(f"{Version(fallback(ROOT)).base_version}.dev1{commit()}")  # before the first tag
    git("tag", "v7.8.9")
    git("commit", "--quiet", "--allow-empty", "--message", "two")
    assert number(PLUGINS[0]).startswith(f"7.8.10.dev1{commit()}")
    git("tag", "v7.9.0")
    assert number() == "7.9.0"
    home["PATH"] = str(tmp_path)  # without git
    assert number() == fallback(ROOT)


def copied(folder: Path) -> None:
    """Copy what the metadata of all packages are made of."""
    (folder / "edgead").mkdir()  # takes the number
    for package in PACKAGES:
        for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
            if (package / name).is_file():
                target = folder / package.relative_to(ROOT) / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(package / name, target)


PAGES = """
import os, runpy, sys
from setuptools import Distribution
root = os.getcwd()
for folder in sys.argv[1:]:
    os.chdir(os.path.join(root, folder))
    package = Distribution()
    package.parse_config_files()
    package.metadata.version = "7.8.9"
    runpy.run_path(os.path.join(root, "setup.py"))["Page"](package).finalize_options()
    print(package.metadata.long_description, end="\\0")
"""


def test_an_index_shows_pages_whose_links_lead_somewhere(tmp_path):
    pytest.importorskip("setuptools", "77", reason="SETUPTOOLS NOT HERE: not built")
    copied(tmp_path)
    folders = [str(package.relative_to(ROOT)) for package in PACKAGES]
    done = subprocess.run([sys.executable, "-c", PAGES, *folders], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    repository = described(ROOT)["project"]["urls"]["Repository"]
    pages = done.stdout.split("\0")[:-1]
    assert len(pages) == len(PACKAGES)
    for package, page in zip(PACKAGES, pages, strict=True):
        links = re.findall(r"(!\[[^][]*)?\]\(([^)\s]+)\)", page)
        ours = re.findall(r"(!\[[^][]*)?\]\(([^)\s]+)\)", (package / "README.md").read_text(encoding="utf-8"))
        assert len(links) == len(ours) > 0
        for image, link in links:
            assert re.match(r"https?://", link), f"{package.name}: {link}"
            kind = f"{repository}/{'raw' if image else 'blob'}/v7.8.9/"
            if link.startswith(repository):
                path = link.partition("#")[0]
                assert path.startswith(kind) and (ROOT / path.removeprefix(kind)).exists(), f"{package.name}: {link}"


def test_every_package_says_where_it_comes_from():
    repository = described(ROOT)["project"]["urls"]["Repository"]
    for package in PACKAGES:
        project = described(package)["project"]
        assert project["urls"]["Repository"] == repository and project["urls"]["Documentation"]
        assert project["description"] and project["authors"] and project["keywords"] and project["classifiers"]


def test_plug_ins_ask_for_this_edgead_and_edgead_has_an_extra_for_each():
    base = Version(fallback(ROOT)).release
    fits = f">={base[0]}.{base[1]}.0.dev0,<{base[0]}.{base[1] + 1}"
    extras = described(ROOT)["project"]["optional-dependencies"]
    reached = set()
    for name, texts in extras.items():
        for needed in map(Requirement, texts):
            if needed.name.startswith("edgead-"):
                assert needed.specifier == Requirement(f"x{fits}").specifier, f"edgead[{name}]: {needed}"
                there = described(ROOT / "plugins" / needed.name)["project"]["optional-dependencies"]
                assert needed.extras <= set(there), f"edgead[{name}]: {needed}"
                reached |= {(needed.name, extra) for extra in needed.extras or {""}}
    for package in PLUGINS:
        project = described(package)["project"]
        (needed,) = [one for one in map(Requirement, project["dependencies"]) if one.name == "edgead"]
        assert needed.specifier == Requirement(f"x{fits}").specifier, f"{package.name}: {needed}"
        for needed in map(Requirement, [text for texts in project["optional-dependencies"].values() for text in texts]):
            if needed.name.startswith("edgead") and needed.name != package.name and needed.specifier:
                assert needed.specifier == Requirement(f"x{fits}").specifier, f"{package.name}: {needed}"
        assert any(name == package.name for name, _ in reached), f"no extra of edgead brings {package.name}"


def test_what_a_wheel_has_beside_python_is_listed():
    listed = described(ROOT)["tool"]["setuptools"]["package-data"]["edgead"]
    packages = {path.parent for path in (ROOT / "edgead").rglob("__init__.py")}
    for path in (ROOT / "edgead").rglob("*"):
        name = path.relative_to(ROOT / "edgead").as_posix()
        if path.is_file() and path.suffix not in (".py", ".pyc", ".so") and not name.startswith("export/"):
            assert any(fnmatch(name, pattern) and name.count("/") == pattern.count("/") for pattern in listed), name
        elif path.suffix == ".py":
            assert path.parent in packages, f"{name}: its folder is no package"


def test_actions_are_pinned_by_hash():
    files = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    used = [line.strip() for file in files for line in file.read_text().splitlines() if "uses:" in line]
    assert len(used) > 10
    for line in used:
        assert re.search(r"uses: [\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line
    updates = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text())["updates"]
    assert [update["package-ecosystem"] for update in updates] == ["github-actions"]


def test_a_release_has_a_wheel_for_every_python_or_none():
    pythons = [name.rsplit(" ", 1)[1] for name in described(ROOT)["project"]["classifiers"] if "Python :: 3." in name]
    assert described(ROOT)["tool"]["cibuildwheel"]["build"] == [f"cp{name.replace('.', '')}-*" for name in pythons]
    steps = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())["jobs"]["build"]["steps"]
    (python,) = [step["with"]["python-version"] for step in steps if "actions/setup-python@" in step.get("uses", "")]
    assert sorted(python.split(), key=Version) == pythons
    assert f"PYTHONS:-{' '.join(pythons)}}}" in (ROOT / ".ci" / "wheels").read_text()
    environment = {**os.environ, "PYTHONS": "3.99"}
    done = subprocess.run([ROOT / ".ci" / "wheels"], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "there is no Python 3.99 here" in done.stderr
