"""The native extension: levels, threads, and what must not get into it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edgead import kernels
from edgead.errors import SettingsError
from edgead.kernels import backend

ROOT = Path(__file__).resolve().parents[2]
LEVELS = kernels.available_isas()

needs_native = pytest.mark.skipif(not LEVELS, reason="edgead is installed without native code")


def run_python(code, **environment):
    result = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, timeout=60
    )
    return result.stdout.strip() or result.stderr.strip().splitlines()[-1]


@needs_native
def test_levels():
    assert LEVELS[0] == "baseline"
    assert kernels.isa() in LEVELS
    one = np.ones((1, 1), np.float32)
    for asked, name in (("cpu", f"cpu:{kernels.isa()}"), ("numpy", "numpy")):
        made = (
            kernels.NearestPatches(one, backend=asked),
            kernels.GroupedPatches(one, [1], backend=asked),
            kernels.WindowSearch(one[None, None], 0, backend=asked),
        )
        assert [each.backend for each in made] == [name] * 3


def test_the_number_of_threads_is_the_one_that_was_set():
    before = kernels.threads()
    try:
        for count in (3, 1):
            kernels.set_threads(count)
            assert kernels.threads() == count
    finally:
        kernels.set_threads(before)


@pytest.mark.parametrize("level", LEVELS)
def test_environment_forces_a_level(level):
    code = "from edgead import kernels as k; import numpy as np; print(k.isa(), k.Smoother((1, 1), (1, 1), 0).backend)"
    assert run_python(code, EDGEAD_ISA=level) == f"{level} cpu:{level}"


@needs_native
def test_unknown_level_is_refused():
    message = run_python("from edgead import kernels; kernels.isa()", EDGEAD_ISA="sse9")
    assert message.startswith("edgead.errors.SettingsError: EDGEAD_ISA 'sse9' is not")
    assert message.endswith(", ".join(LEVELS))


@needs_native
def test_unknown_backend_is_refused():
    bank = np.ones((1, 1), np.float32)
    with pytest.raises(ValueError, match="backend 'gpu' is unknown: use one of auto, cpu, numpy, cpu:baseline"):
        kernels.NearestPatches(bank, backend="gpu")
    with pytest.raises(ValueError, match="'mmx' is not an instruction set level"):
        kernels.NearestPatches(bank, backend="cpu:mmx")
    with pytest.raises(ValueError, match="unknown"):
        kernels.NearestPatches(bank, backend="numpy:avx2")


@pytest.fixture
def without_native(tmp_path):
    """Python code that imports a copy of edgead from which the extension is really missing."""
    shutil.copytree(
        ROOT / "edgead", tmp_path / "edgead", ignore=shutil.ignore_patterns("_native*", "_cuda*", "__pycache__")
    )
    return f"""
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
sys.path.insert(0, {str(tmp_path)!r})
import edgead
assert edgead.__file__.startswith({str(tmp_path)!r}), edgead.__file__
from edgead import kernels
"""


def test_numpy_takes_over_without_native_code(without_native):
    code = """
import numpy as np
index = kernels.NearestPatches(np.eye(3, dtype=np.float32))
print(kernels.backends(), index.backend, index.search(np.eye(3, dtype=np.float32))[1].ravel(), kernels.isa() == "")
"""
    assert run_python(without_native + code) == "('numpy',) numpy [0 1 2] True"


def test_a_missing_extension_is_reported_once_with_the_remedy(tmp_path):
    """By the first kernel that has native code, and by the doctor; not by who only looks, or asked for numpy."""
    pytest.importorskip("typer", reason="the doctor is a part of the command line")
    code = """
import sys
sys.modules["edgead._native"] = None
import numpy as np
from edgead import kernels
from edgead.cli.doctor import _native
bank = np.ones((4, 3), np.float32)
kernels.threads(), kernels.backends(), kernels.NearestPatches(bank, backend="numpy")
print("only looked", file=sys.stderr, flush=True)
for _ in range(2):
    kernels.NearestPatches(bank), kernels.Smoother((2, 2), (4, 4), 1.0)
print(_native())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    before, _, after = done.stderr.partition("only looked\n")  # an emulated numpy has warnings of its own
    (warning,) = after.splitlines()
    assert "slower" not in before and "up to 30 times slower" in warning and "pip install -e ." in warning
    assert "'ok': False" in done.stdout and "pip install -e ." in done.stdout


def test_threads_are_counted_without_native_code(without_native):
    code = without_native + "print(kernels.threads())"
    assert run_python(code, EDGEAD_THREADS="") == str(min(len(os.sched_getaffinity(0)), 256))
    assert run_python(code, EDGEAD_THREADS="3") == "3"
    assert run_python(without_native + "kernels.set_threads(5); print(kernels.threads())", EDGEAD_THREADS="3") == "5"
    for wrong in ("0", "abc", "257", "2.5"):
        expected = f"SettingsError: EDGEAD_THREADS is '{wrong}': it must be a whole number from 1 to 256"
        assert expected in run_python(code, EDGEAD_THREADS=wrong)
    assert "SettingsError: the number of threads must be" in run_python(without_native + "kernels.set_threads(0)")


def test_an_extension_that_does_not_load_is_seen(without_native, tmp_path):
    (tmp_path / "edgead" / "_native.py").write_text("import a_library_that_is_missing")
    assert "No module named 'a_library_that_is_missing'" in run_python(without_native)


@pytest.mark.parametrize("count", [0, 257, 1 << 40])
def test_a_wrong_number_of_threads_is_a_setting(count):
    with pytest.raises(SettingsError, match="the number of threads must be a whole number from 1 to 256"):
        kernels.set_threads(count)


@needs_native
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("EDGEAD_THREADS", "abc", "EDGEAD_THREADS is 'abc': it must be a whole number from 1 to 256"),
        ("EDGEAD_ISA", "sse9", "EDGEAD_ISA 'sse9' is not an instruction set level"),
    ],
)
def test_a_kernel_names_the_wrong_setting(name, value, message):
    code = "from edgead import kernels; import numpy as np; kernels.NearestPatches(np.ones((1, 1), np.float32))"
    assert f"edgead.errors.SettingsError: {message}" in run_python(code, **{name: value})


@needs_native
def test_threads():
    code = "from edgead import kernels; print(kernels.threads())"
    assert run_python(code, EDGEAD_THREADS="") == str(len(os.sched_getaffinity(0)))
    assert run_python(code, EDGEAD_THREADS="3") == "3"
    for wrong in ("0", "two", "257", "2.5"):
        assert (
            f"edgead.errors.SettingsError: EDGEAD_THREADS is '{wrong}': it must be a whole number from 1 to 256"
            in run_python(code, EDGEAD_THREADS=wrong)
        )


@needs_native
def test_works_after_fork():
    code = """
import os
import numpy as np
from edgead import kernels
kernels.set_threads(2)
features = np.random.default_rng(0).standard_normal((500, 40)).astype(np.float32)
index = kernels.NearestPatches(features)
expected = index.search(features)[1]
child = os.fork()
same = (index.search(features)[1] == expected).all()
if child == 0:
    os._exit(0 if same else 1)
print(same, os.waitpid(child, 0)[1])
"""
    assert run_python(code) == "True 0"


@needs_native
def test_the_number_of_threads_changes_during_calls():
    features = np.random.default_rng(0).standard_normal((300, 20), dtype=np.float32)
    index = kernels.NearestPatches(features)
    expected = index.search(features, 2)[1]
    before, done = kernels.threads(), threading.Event()

    def change():
        while not done.is_set():
            for count in (1, 6, 2, 4):
                kernels.set_threads(count)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        with ThreadPoolExecutor(3) as executor:
            for _, rows in executor.map(lambda _: index.search(features, 2), range(90)):
                np.testing.assert_array_equal(rows, expected)
    finally:
        done.set()
        thread.join()
        kernels.set_threads(before)


@needs_native
def test_other_threads_run_while_distances_are_measured():
    features = np.ones((60_000, 512), np.float32)
    ticks, done = [], threading.Event()

    def tick():
        while not done.wait(1e-4):
            ticks.append(time.perf_counter())

    def ticks_during_call():
        begin = time.perf_counter()
        backend.native.coreset_distances(features, 7, "")
        end = time.perf_counter()
        return sum(begin < at < end for at in ticks)

    # Python takes no turn away for a minute: another thread runs only where this one gives way.
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)
    thread = threading.Thread(target=tick)
    thread.start()
    try:
        # One turn may be left over from the start of the thread; there is time for dozens.
        assert any(ticks_during_call() > 2 for _ in range(20))
    finally:
        done.set()
        thread.join()
        sys.setswitchinterval(interval)


@needs_native
def test_interrupt_stops_the_coreset():
    # A shell starts background jobs with SIGINT ignored, and Python leaves it so.
    before, threads = signal.signal(signal.SIGINT, signal.default_int_handler), kernels.threads()
    kernels.set_threads(1)
    features = np.random.default_rng(0).standard_normal((60000, 64), dtype=np.float32)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    begin = time.process_time()
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            kernels.greedy_coreset(features, 59000)
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)
        kernels.set_threads(threads)
    assert time.process_time() - begin < 5  # of a minute


def isa_files():
    """(file, flags) of every level that this machine's compiler has, from the one list in CMakeLists.txt."""
    for level, flags in re.findall(r"edgead_isa\((\w+)([^)]*)\)", (ROOT / "CMakeLists.txt").read_text()):
        if level in LEVELS:
            yield pytest.param(ROOT / "csrc" / "isa" / f"{level}.cpp", flags.split(), id=level)


@pytest.mark.skipif(not (shutil.which("c++") and shutil.which("nm")), reason="needs c++ and nm")
@pytest.mark.parametrize(("file", "flags"), list(isa_files()))
def test_isa_files_are_closed(tmp_path, file, flags):
    # A weak symbol would be shared between levels: the linker could keep the AVX-512 one for every CPU. Without
    # optimisation nothing is inlined away, so every function that the file has shows.
    target = tmp_path / "object.o"
    includes = f"-I{ROOT / 'csrc'}"
    subprocess.run(["c++", "-std=c++20", "-O0", "-fPIC", *flags, includes, "-c", file, "-o", target], check=True)
    symbols = subprocess.run(["nm", "-C", target], check=True, capture_output=True, text=True).stdout.splitlines()
    assert not [line for line in symbols if re.search(r" [VWvwu] ", line)]
    outside = [line.split(maxsplit=2)[-1] for line in symbols if re.search(r" [A-TX-Z] ", line)]
    assert outside == [f"edgead::kernels_{file.stem}"]
    undefined = [line.split()[-1] for line in symbols if re.search(r" U ", line)]
    assert set(undefined) <= {"memcpy", "memset", "__stack_chk_fail", "_GLOBAL_OFFSET_TABLE_"}


def test_a_source_distribution_holds_what_is_compiled(tmp_path):
    pytest.importorskip("setuptools")
    for name in ("csrc", "edgead", "export"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for path in ROOT.iterdir():
        if path.suffix in (".toml", ".py", ".in", ".md", ".txt") or path.name == "LICENSE":
            shutil.copy(path, tmp_path)
    command = [sys.executable, "setup.py", "-q", "sdist", "-d", "dist"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    (archive,) = (tmp_path / "dist").glob("*.tar.gz")
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "csrc").rglob("*")}
    assert sources | {"CMakeLists.txt", "LICENSE", "setup.py", "pyproject.toml", "export/graph.py"} <= names
