"""Mutants: small changes of the source, drawn by a seed, and whether the tests that should notice do.

    python -m benchmarks mutate                            # 300 of the Python files below
    python -m benchmarks mutate --only handshake --count 40
    python -m benchmarks mutate --sample 60 --seed 202649   # what continuous integration does once a week
    python -m benchmarks mutate --native --count 20        # of the C++; each one is compiled

A mutant is killed where a test fails, or takes far longer than without it. One that survives is a hole in the tests,
or is equivalent: `mutate_equivalent.yaml` keeps those that somebody has looked at, with the reason, and they are not
run again. Everything happens in a copy of the tree. The draw depends on a mutant's own text alone, so it stays the
same where other code changes.

mutmut 3.8 draws no sample; cosmic-ray 8.7 starts a Python, with torch, for each mutant,
which takes longer than most of these tests. Here one process has loaded what they need, and forks.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import hashlib
import importlib
import importlib.util
import itertools
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib.metadata import entry_points
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
EQUIVALENT = Path(__file__).with_name("mutate_equivalent.yaml")
PRELOADED = ("numpy", "cv2", "torch", "pytest", "hypothesis", "pydantic", "sqlalchemy", "onnxruntime", "scipy.stats")
# Beside three times what the tests take: the machine may do something else.
SPARE_S = 30.0
# Of address space: a mutant may ask for everything.
MAX_MEMORY = 16 * 2**30

# Which Python files, and the tests that should notice a mutant of them: after "|" those that only a survivor meets. The
# first row that fits.
TESTS = {
    "calibration/blind": "blind",
    "calibration/cause_of_rejects": "rejects",
    "calibration/operating_point": "operating_point",
    "calibration/outliers": "outliers",
    "calibration/two_sample": "two_sample",
    "calibration/volumes": "volumes",
    "calibration/*": "calibration | group_conformal",
    "heads/describe": "heads kinds",
    "heads/local": "golden | workers",
    "heads/map": "scoring device_scoring",
    "heads/placing": "golden",
    "heads/*": "heads scoring | memory_bank | kinds",
    "kernels/coreset": "kernels_coreset",
    "kernels/images": "kernels_images",
    "kernels/maps": "kernels_maps",
    "kernels/banded_filters": "kernels_maps",
    "kernels/grouped": "kernels_grouped | native",
    "kernels/window_search": "kernels_windows | native",
    "kernels/backend": "native kernels_grouped",
    "kernels/nearest": "kernels_nearest kernels_prescan | kernels_memory",
    "kernels/*": "kernels_windows kernels_grouped kernels_images | kernels_coreset kernels_maps | kernels_nearest",
    "adapt/finalize": "volumes | cross_conformal",
    "adapt/teach/defects": "known_defects",
    "adapt/memory_bank/*": "feature_metric feature_scale | memory_bank | cross_conformal made_defects",
    "sinks/queued": "queued_sink",
    "line/triggers/handshake": "handshake | triggers_modbus",
    "line/evidence/rows": "evidence | marks evidence_versions",
    "line/evidence/chain": "audit_chain",
    "line/evidence/audit": "audit_chain",
    "artifact/camera_view": "drift",
    "artifact/signatures/*": "signatures",
    "artifact/manifest": "artifact | group_conformal",
    "metrics/*": "metrics | group_conformal",
    "images/boxes": "boxes | sentences",
    "dataset/layouts/*": "layouts",
    "dataset/masks": "layouts | volumes",
    "line/drift/*": "drift",
    "line/daemon/drift": "daemon_drift",
}
WITHOUT = ("edgead/kernels/cuda.py", "edgead/heads/gpu.py")  # they need a GPU
NATIVE = ("csrc/nearest/*", "csrc/smooth/*", "csrc/coreset/*", "csrc/shared/*")
NATIVE_TESTS = "kernels_maps kernels_grouped kernels_windows kernels_prescan kernels_coreset kernels_nearest"

OPERATORS = "Lt:LtE,GtE LtE:Lt,Gt Gt:GtE,LtE GtE:Gt,Lt Eq:NotEq NotEq:Eq Is:IsNot IsNot:Is In:NotIn NotIn:In "
OPERATORS += (
    "Add:Sub Sub:Add Mult:Div Div:Mult FloorDiv:Div Mod:FloorDiv Pow:Mult BitAnd:BitOr BitOr:BitAnd And:Or Or:And"
)
OTHERS = {name: others.split(",") for name, others in (pair.split(":") for pair in OPERATORS.split())}
OPPOSITES = "min:max any:all minimum:maximum floor:ceil argmin:argmax zeros:ones append:extend mean:median popleft:pop "
OPPOSITES += "bisect_left:bisect_right"
CALLS = {a: b for pair in OPPOSITES.split() for a, b in (pair.split(":"), reversed(pair.split(":")))}
Part = ast.expr | ast.stmt
# Text, types and what only people read.
UNTOUCHED = (ast.JoinedStr, ast.Raise, ast.Assert, ast.Import, ast.ImportFrom)

# Of the C++, by pattern; spaces around an operator tell it from a template's bracket.
SPACED = "< <= | <= < | > >= | >= > | == != | != == | + - | - + | * / | / * | && or | += -= | % /"
TEXTUAL = [(f" {re.escape(a)} (?!=)", f" {b} ") for a, b in (pair.split() for pair in SPACED.split(" | "))]
TEXTUAL += [(r"\b0\b(?!\.)", "1"), (r"\b1\b(?!\.)", "2"), ("std::min", "std::max"), ("std::max", "std::min")]
TEXTUAL += [(r"\btrue\b", "false"), (r"\bfalse\b", "true"), (r" \|\| ", " && ")]


@dataclass(frozen=True)
class Mutant:
    """One changed file: which, where, what the change reads as, and the whole new text."""

    file: str
    line: int
    change: str
    source: str

    @property
    def native(self) -> bool:
        return self.file.startswith("csrc")

    def rank(self, seed: int) -> bytes:
        return hashlib.sha256(f"{seed} {self.file} {self.change}".encode()).digest()


def python_mutants(file: str, source: str) -> Iterator[Mutant]:
    """All mutants of a Python module."""
    raw = source.encode()
    seen: Counter[str] = Counter()
    starts = [0, *itertools.accumulate(map(len, raw.splitlines(keepends=True)))]
    for node, new in (pair for part in _walk(ast.parse(source)) for pair in _changes(part)):
        begin, end = (starts[row - 1] + column for row, column in _span(node))
        line = raw[starts[node.lineno - 1] : starts[node.lineno]].decode().strip()
        text = (raw[:begin] + new.encode() + raw[end:]).decode()
        change = f"{line}  [{ast.unparse(node)} -> {new}]"
        seen[change] += 1
        yield Mutant(file, node.lineno, change + (f" #{seen[change]}" if seen[change] > 1 else ""), text)


def _span(node: Part) -> tuple[tuple[int, int], tuple[int, int]]:
    assert node.end_lineno is not None and node.end_col_offset is not None
    return (node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes whose change may be noticed: no annotations, decorators, messages or calls of a log."""
    logs = isinstance(node, ast.Call | ast.Expr) and re.match(r"(self\._)?log\b", ast.unparse(node))
    if logs or isinstance(node, UNTOUCHED) or (isinstance(node, ast.keyword) and node.arg == "strict"):
        return
    yield node
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns", "decorator_list", "bases"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _walk(child)


def _with(node: ast.AST, **fields: object) -> str:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return f"({ast.unparse(changed)})"


def _others(op: ast.AST) -> list[ast.AST]:
    return [getattr(ast, name)() for name in OTHERS.get(type(op).__name__, ())]


def _changes(node: ast.AST) -> Iterator[tuple[Part, str]]:
    """What may stand in the place of a node, or of a part of it."""
    match node:
        case ast.Compare(ops=[op]):
            yield from ((node, _with(node, ops=[other])) for other in _others(op))
        case ast.BinOp(op=op) | ast.BoolOp(op=op):
            yield from ((node, _with(node, op=other)) for other in _others(op))
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node, f"({ast.unparse(node.operand)})"
        case ast.Constant(value=bool(value)):
            yield node, str(not value)
        case ast.Constant(value=int(value)):
            yield node, str(value + 1)
        case ast.Constant(value=float(value)):
            # What only absorbs rounding is there or is not: its size is no matter.
            yield node, str(0.0 if 0 < value < 1e-6 else value * 1.25 or 1.0)
        case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test):
            if not isinstance(test, ast.Compare | ast.UnaryOp) and ast.unparse(test) != "TYPE_CHECKING":
                yield test, f"(not ({ast.unparse(test)}))"
        case ast.Return(value=ast.expr() as result) if ast.unparse(result) != "None":
            yield result, "None"
        case ast.Break() | ast.Continue():
            yield node, "continue" if isinstance(node, ast.Break) else "break"
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield node, "pass"
        case ast.Call(func=ast.Name(id=name) as called) if name in CALLS:
            yield called, _with(called, id=CALLS[name])
        case ast.Call(func=ast.Attribute(attr=name) as called) if name in CALLS:
            yield called, _with(called, attr=CALLS[name])


def native_mutants(file: str, source: str) -> Iterator[Mutant]:
    """Mutants of C++, line by line; some may not compile."""
    lines = source.splitlines(keepends=True)
    for number, line in enumerate(lines):
        code = line.split("//")[0]
        if re.match(r"\s*(#|template|static_assert|__builtin_prefetch|/?\*)", code):
            continue
        for pattern, new in TEXTUAL:
            for found in re.finditer(pattern, code):
                text = line[: found.start()] + new + line[found.end() :]
                change = (
                    f"{line.strip()}  [column {found.start() - len(line) + len(line.lstrip())}: {found[0]} -> {new}]"
                )
                yield Mutant(file, number + 1, change, "".join([*lines[:number], text, *lines[number + 1 :]]))


class Copy:
    """A copy of the tree: one mutant at a time is put into it, and tests run there in a fork of this process."""

    def __init__(self, tree: Path):
        self.tree = tree
        left_out = shutil.ignore_patterns(".*", "build", "out", "*.egg-info")
        shutil.copytree(ROOT, tree, symlinks=True, ignore=left_out)
        self._limits: dict[str, float] = {}

    def judge(self, mutant: Mutant, tests: str) -> str:
        """Say "killed", "survived" or, of C++, "not compiled"."""
        for stage in tests.split(" | "):
            limit_s = self._limit_of(stage)
            with self._changed(mutant):
                if mutant.native and not self.build():
                    return "not compiled"
                if not self._passes(stage, limit_s):
                    return "killed"
        return "survived"

    @contextlib.contextmanager
    def _changed(self, mutant: Mutant) -> Iterator[None]:
        path = self.tree / mutant.file
        original = path.read_text()
        compiled = Path(importlib.util.cache_from_source(str(path)))
        try:
            path.write_text(mutant.source)
            compiled.unlink(missing_ok=True)  # it is known by size and second, which a mutant may share
            yield
        finally:
            path.write_text(original)
            compiled.unlink(missing_ok=True)

    def build(self) -> bool:
        """Build the extension of the copy."""
        folder = self.tree / "build"
        here = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        if not folder.exists():
            import pybind11

            where = [f"-Dpybind11_DIR={pybind11.get_cmake_dir()}", f"-DPython_EXECUTABLE={sys.executable}"]
            where += [f"-DCMAKE_LIBRARY_OUTPUT_DIRECTORY={self.tree / 'edgead'}", "-DCMAKE_CXX_FLAGS=-w"]
            subprocess.run(["cmake", "-S", self.tree, "-B", folder, "-G", "Ninja", *where], env=here, check=True)
        return not subprocess.run(["ninja", "-C", folder], env=here, stdout=subprocess.DEVNULL).returncode

    def _limit_of(self, tests: str) -> float:
        if tests not in self._limits:
            began_s = time.monotonic()
            if not self._passes(tests, 1200.0):
                sys.exit(f"without a mutant these fail: {tests}\n{(self.tree / 'output').read_text()[-3000:]}")
            self._limits[tests] = SPARE_S + 3 * (time.monotonic() - began_s)
        return self._limits[tests]

    def _passes(self, tests: str, limit_s: float) -> bool:
        child = os.fork()
        if not child:
            try:
                os._exit(self._in_child(tests))
            except BaseException:  # noqa: BLE001  nothing may go on here as if it were the parent
                traceback.print_exc()
                os._exit(3)
        deadline = time.monotonic() + limit_s
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done or time.monotonic() > deadline:
                break
            time.sleep(0.02)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # what the tests have started, too
        if not done:
            os.waitpid(child, 0)
        return bool(done) and status == 0

    def _in_child(self, tests: str) -> int:
        import pytest

        os.setsid()
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
        output = os.open(self.tree / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.chdir(self.tree)
        sys.path[:] = [str(self.tree), *(entry for entry in sys.path if entry not in ("", str(ROOT)))]
        os.environ["PYTHONPATH"] = str(self.tree)
        for name in [name for name in sys.modules if name.partition(".")[0] == "benchmarks"]:
            del sys.modules[name]
        import edgead

        assert edgead.__file__ == str(self.tree / "edgead/__init__.py"), edgead.__file__
        files = [str(next(self.tree.glob(f"tests/*/test_{name}.py"))) for name in tests.split()]
        preloaded = "-Wignore::pytest.PytestAssertRewriteWarning"
        return int(pytest.main(["-xq", "-pno:cacheprovider", "--hypothesis-seed=0", preloaded, *files]))


def preload() -> None:
    """Load what a fork then need not, but nothing of edgead."""
    for name in [*PRELOADED, *(plugin.module for plugin in entry_points(group="pytest11"))]:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def tests_of(file: str) -> str:
    return next(tests for pattern, tests in TESTS.items() if fnmatch(file, f"edgead/{pattern}.py"))


def draw(seed: int, count: int, only: str, *, native: bool) -> list[Mutant]:
    """So many mutants of the files whose path contains `only`, by file."""
    patterns = NATIVE if native else [f"edgead/{name}.py" for name in TESTS]
    paths = [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]
    files = list(dict.fromkeys(str(path.relative_to(ROOT)) for path in paths))  # a row may be part of a later one
    make = native_mutants if native else python_mutants
    chosen = [file for file in files if only in file and file not in WITHOUT]
    found = [mutant for file in chosen for mutant in make(file, (ROOT / file).read_text())]
    drawn = sorted(found, key=lambda mutant: mutant.rank(seed))[:count]
    return sorted(drawn, key=lambda mutant: (files.index(mutant.file), mutant.line))


def table(results: Sequence[tuple[Mutant, str]]) -> str:
    """Markdown: of each file, how many mutants had which end."""
    ends = ("killed", "equivalent", "survived")
    counts: dict[str, Counter[str]] = {}
    for mutant, end in results:
        counts.setdefault(f"`{mutant.file}`", Counter())[end] += 1
    counts["all"] = Counter(end for _, end in results)
    lines = [f"| file | mutants | {' | '.join(ends)} |", "|---|---|---|---|---|"]
    for row, found in counts.items():
        lines.append(f"| {row} | {sum(found[end] for end in ends)} | {' | '.join(str(found[end]) for end in ends)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks mutate", description=__doc__.partition("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sample", "--count", dest="count", type=int, default=300, help="draw so many at random")
    parser.add_argument("--only", default="", metavar="NAME", help="of files whose path contains this")
    parser.add_argument("--native", action="store_true", help="of the C++")
    given = parser.parse_args(arguments)
    known = {(entry["file"], change) for entry in yaml.safe_load(EQUIVALENT.read_text()) for change in entry["changes"]}
    preload()
    results = []
    with tempfile.TemporaryDirectory(prefix="edgead-mutants-") as folder:
        copied = Copy(Path(folder) / "tree")
        if given.native and not copied.build():
            sys.exit("the C++ does not compile without a mutant")
        for mutant in draw(given.seed, given.count, given.only, native=given.native):
            tests = NATIVE_TESTS if given.native else tests_of(mutant.file)
            end = "equivalent" if (mutant.file, mutant.change) in known else copied.judge(mutant, tests)
            results.append((mutant, end))
            print(f"{end:10} {mutant.file}:{mutant.line}: {mutant.change}", flush=True)
    print(table(results))
    left = [mutant for mutant, end in results if end == "survived"]
    for mutant in left:
        print(f"survived: {mutant.file}:{mutant.line}: {mutant.change}")
    sys.exit(bool(left))
