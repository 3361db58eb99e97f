"""Cache files of TensorRT: what is used again, and what is ignored with a sentence; TensorRT itself has a stand-in."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace

import pytest

from edgead.runtime.device import Gpu
from edgead.runtime.engine_builder import build_engine
from edgead.runtime.engine_cache import CacheFile, cache_file
from edgead.runtime.flavour import Flavour
from edgead.runtime.tensorrt import Compiled

A2000 = Gpu("NVIDIA RTX A2000", "sm86")


@pytest.fixture
def cache(tmp_path) -> CacheFile:
    file = CacheFile(tmp_path / "cache" / "timing")
    file.keep(b"measured")
    return file


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_what_is_kept_is_read_again(cache, caplog):
    assert cache.read() == b"measured"
    cache.keep(b"more")
    assert cache.read() == b"more" and caplog.text == ""
    assert (cache.path.stat().st_mode & 0o777, cache.path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert CacheFile(cache.path.with_name("none")).read() == b"" and caplog.text == ""


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (flip, "is damaged (sha256 differs)"),
        (lambda path: path.write_bytes(path.read_bytes()[:20]), "is damaged (sha256 differs)"),
        (lambda path: path.write_bytes(b""), "is damaged (sha256 differs)"),
        (lambda path: path.chmod(0o666), "may be written by others than its owner (mode 666)"),
        (lambda path: path.parent.chmod(0o777), "may be written by others than its owner (mode 777)"),
        (lambda path: (path.unlink(), path.mkdir()), "cannot be read (Is a directory)"),
    ],
)
def test_what_may_not_be_used_is_ignored_with_a_sentence(cache, caplog, spoil, problem):
    spoil(cache.path)
    assert cache.read() == b""
    assert f"{cache.path} {problem}: it is not used, and written again" in caplog.text


def test_a_folder_that_cannot_be_written_costs_time_alone(tmp_path, caplog):
    (tmp_path / "file").touch()
    CacheFile(tmp_path / "file" / "timing").keep(b"measured")
    assert "cannot be written" in caplog.text and "the next time takes as long again" in caplog.text


def test_every_tensorrt_and_every_card_has_its_own(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CACHE_DIRECTORY", raising=False)
    old, new = (Flavour("tensorrt", version, None) for version in ("10.3.0", "10.13.2"))
    orin, other = Gpu("Orin", "sm87"), Gpu("../../NVIDIA RTX A2000", "sm86")
    files = [cache_file("timing", *of).path for of in ((old, A2000), (new, A2000), (old, orin), (old, other))]
    assert files[0] == tmp_path / "edgead" / "tensorrt" / "timing.tensorrt-10.3.0.NVIDIA-RTX-A2000-sm86"
    assert len(set(files[:3])) == 3 and files[3].parent == files[0].parent
    monkeypatch.setenv("CACHE_DIRECTORY", "/var/cache/edgead:/var/cache/other")
    assert cache_file("timing", old, orin).path.parent == Path("/var/cache/edgead/tensorrt")
    monkeypatch.delenv("CACHE_DIRECTORY")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_file("timing", old, orin).path.parent == tmp_path / ".cache" / "edgead" / "tensorrt"


class TensorRt:
    """`tensorrt` as far as a build goes; each adds what it has measured to what it is given."""

    ILogger = type("ILogger", (), {"ERROR": 1})
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    BuilderFlag = SimpleNamespace(TF32=0)
    Dims = tuple

    def __init__(self, takes=lambda content: True, builds=True):
        self.given, self._takes, self._builds = [], takes, builds
        self.flavour = Flavour("tensorrt", "10.3.0", self)

    def Builder(self, logger):
        return self

    def OnnxParser(self, network, logger):
        return SimpleNamespace(parse=lambda content: True)

    def create_network(self, flags):
        image = SimpleNamespace(name="image", shape=(-1, 8, 8, 3))
        return SimpleNamespace(num_inputs=1, get_input=lambda number: image)

    def create_optimization_profile(self):
        return SimpleNamespace(set_shape=lambda name, *shapes: None)

    def create_builder_config(self):
        return self

    def clear_flag(self, flag):
        pass

    def add_optimization_profile(self, profile):
        return 0

    def create_timing_cache(self, content):
        self.given.append(content)
        return SimpleNamespace(content=content, serialize=lambda: content or b"measured")

    def set_timing_cache(self, cache, ignore_mismatch):
        assert not ignore_mismatch
        return self._takes(cache.content)

    def build_serialized_network(self, network, config):
        return b"engine" if self._builds else None


def build(api: TensorRt, timings: CacheFile | None) -> bytes:
    return build_engine(Path("model.onnx"), b"", api.flavour, "current", timings)[0]


def test_a_build_measures_what_no_earlier_one_has(tmp_path, caplog):
    timings, api = CacheFile(tmp_path / "cache" / "timing"), TensorRt()
    assert build(api, timings) == b"engine" and timings.read() == b"measured"
    before = timings.path.stat().st_ino
    assert build(api, timings) == b"engine"
    assert api.given == [b"", b"measured"]
    assert timings.path.stat().st_ino == before and caplog.text == ""  # nothing new: nothing written
    flip(timings.path)
    assert build(api, timings) == b"engine"
    assert api.given[2:] == [b""] and "is damaged" in caplog.text and timings.read() == b"measured"
    assert build(api, None) == b"engine" and len(api.given) == 3


def test_timings_that_tensorrt_does_not_take_are_measured_again(tmp_path, caplog):
    timings = CacheFile(tmp_path / "cache" / "timing")
    timings.keep(b"of another TensorRT")
    api = TensorRt(takes=lambda content: not content)
    assert build(api, timings) == b"engine"
    assert api.given == [b"of another TensorRT", b""] and timings.read() == b"measured"
    assert "is not taken by TensorRT: it is not used, and written again" in caplog.text
    assert build(TensorRt(takes=lambda content: False), timings) == b"engine"


def test_compiled_kernels_of_another_driver_are_ignored(tmp_path, caplog):
    file = CacheFile(tmp_path / "cache" / "runtime")
    given = []

    def start(kernels: bytes, *, taken: bool) -> None:
        cache = SimpleNamespace(deserialize=lambda content: given.append(content) or taken, serialize=lambda: kernels)
        config = SimpleNamespace(create_runtime_cache=lambda: cache, set_runtime_cache=given.append)
        compiled = Compiled(file)
        compiled.add_to(config)
        assert given.pop() is cache
        compiled.keep()

    with caplog.at_level(logging.WARNING):
        start(b"first", taken=True)
        start(b"first", taken=True)
        assert given == [b"first"] and caplog.text == ""
        start(b"second", taken=False)
    assert "is of another driver or system: it is not used" in caplog.text and file.read() == b"second"


def test_tensorrt_compiles_nothing_at_its_start(tmp_path):
    Compiled(CacheFile(tmp_path / "runtime")).keep()
    assert not list(tmp_path.iterdir())
