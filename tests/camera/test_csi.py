"""Cameras on the board's connector: the programs that read them, by GStreamer's test image and by some that fail."""

from __future__ import annotations

import sys
import time
from contextlib import closing

import numpy as np
import psutil
import pytest
from patience import MAX_S
from system_packages import require

from edgead.sources import LiveLimits, SourceError, csi, open_source
from edgead.sources.csi import CsiOptions, ProgramCapture, RawFrames, csi_source, gstreamer_command, rpicam_command
from edgead.sources.reopened_camera import SupervisedCamera
from edgead.sources.settings import CameraSection

LIMITS = LiveLimits(open_timeout_s=10, read_timeout_s=1)
# rpicam-vid's stand-in: as many frames as the name of its camera says, then it hangs or ends.
RPICAM = """#!{python}
import argparse, sys, time
import numpy as np
parser = argparse.ArgumentParser()
for name in ("camera", "width", "height", "timeout", "verbose"):
    parser.add_argument("--" + name, type=int)
for name in ("framerate", "codec", "output"):
    parser.add_argument("--" + name)
parser.add_argument("--nopreview", action="store_true")
args = parser.parse_args()
assert (args.codec, args.output, args.timeout) == ("yuv420", "-", 0)
if args.camera > 1:
    sys.exit("ERROR: *** no cameras available ***")
for number in range(args.camera + 2):
    luma = np.full((args.height, args.width), 60 + 40 * number, np.uint8)
    chroma = np.full(args.height * args.width // 2, 128, np.uint8)
    sys.stdout.buffer.write(luma.tobytes() + chroma.tobytes())
    sys.stdout.buffer.flush()
    time.sleep(0.05)
time.sleep(100 if args.camera == 0 else 0)
"""


@pytest.fixture
def rpicam(tmp_path, monkeypatch):
    program = tmp_path / "rpicam-vid"
    program.write_text(RPICAM.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))


def test_the_sources_of_pipelines():
    jetson = csi_source(1, CsiOptions(width=1920, height=1080, fps=60.0), tegra=True)
    assert jetson.startswith(
        "nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),width=1920,height=1080,framerate=60/1"
    )
    assert csi_source(0, CsiOptions(), tegra=False) == "libcamerasrc ! video/x-raw,width=1280,height=720,framerate=30/1"
    named = csi_source(1, CsiOptions(name="/base/soc/i2c0mux/imx219@10"), tegra=False)
    assert named.startswith("libcamerasrc camera-name=/base/soc/i2c0mux/imx219@10 ! ")
    with pytest.raises(SourceError, match="csi://1: libcamera needs its name"):
        csi_source(1, CsiOptions(), tegra=False)


@pytest.mark.parametrize(
    ("uri", "what"),
    [
        ("csi://0?name=x ! filesink location=y", "a name has letters"),
        ("csi://front", "the number of the sensor"),
    ],
)
def test_what_cannot_be_opened_says_why(uri, what):
    with pytest.raises(SourceError, match=what):
        open_source(uri)


def test_a_machine_without_a_program_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="no program on this machine .* install rpicam-apps"):
        open_source("csi://0")


@pytest.mark.parametrize("width", [64, 61])  # rows of 183 bytes are filled up to 184
def test_gstreamer_gives_frames(monkeypatch, width):
    require("gstreamer")
    monkeypatch.setattr(csi, "csi_source", lambda *_, **__: "videotestsrc is-live=true pattern=red")
    monkeypatch.setattr(csi, "_RPICAM", ())
    with closing(open_source(f"csi://0?width={width}&height=49")) as source:
        frames = [frame for frame, _ in zip(source, range(5), strict=False)]
    red = np.zeros((49, width, 3), np.uint8)
    red[...] = 0, 0, 255
    assert len(frames) == 5 and all(np.abs(frame.image.astype(int) - red).max() <= 2 for frame in frames)


def test_what_gstreamer_lacks_is_quoted():
    require("gstreamer")
    command = gstreamer_command("nosuchsource", CsiOptions())
    with pytest.raises(SourceError, match='csi://0: gst-launch-1.0 gives no frame: .*no element "nosuchsource"'):
        ProgramCapture("csi://0", command, RawFrames(64, 48, "bgr"), LIMITS)


def test_rpicam_gives_frames_until_it_ends(rpicam):
    with closing(open_source("csi://1?width=64&height=48")) as source:
        levels = []
        with pytest.raises(SourceError, match="csi://1.* the stream ended"):
            levels.extend(frame.image.mean() for frame in source)
    assert len(levels) >= 1 and levels == sorted(levels) and 40 < levels[0] < levels[-1] < 200


def test_rpicam_that_hangs_is_ended(rpicam):
    with closing(open_source("csi://0?width=64&height=48", read_timeout_s=0.5)) as source:
        with pytest.raises(SourceError, match="no data for 0.5 s|no frame for 0.5 s"):
            for _ in source:
                pass
        deadline = time.monotonic() + MAX_S
        while psutil.Process().children() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not [child for child in psutil.Process().children() if "rpicam-vid" in " ".join(child.cmdline())]


def test_what_rpicam_says_is_quoted(rpicam):
    with pytest.raises(SourceError, match=r"csi://9.*: rpicam-vid gives no frame: ERROR: \*\*\* no cameras available"):
        open_source("csi://9?width=64&height=48")


@pytest.mark.parametrize("size", ["width=100&height=48", "width=64&height=49"])
def test_rpicam_takes_only_sizes_without_filling(rpicam, size):
    with pytest.raises(SourceError, match="multiples of 64 and an even height"):
        open_source(f"csi://0?{size}")


def test_the_command_of_rpicam_has_the_camera_and_its_format():
    command = rpicam_command("rpicam-vid", 1, CsiOptions(width=1920, height=1080, fps=60))
    assert " ".join(command).startswith(
        "rpicam-vid --camera 1 --width 1920 --height 1080 --framerate 60 --codec yuv420"
    )


def test_the_program_ends_with_its_reader(rpicam):
    def programs():
        return [one for one in psutil.Process().children(recursive=True) if "rpicam-vid" in " ".join(one.cmdline())]

    section = CameraSection(uri="csi://0?width=64&height=48", retry_first_s=30, retry_most_s=30, read_timeout_s=30)
    camera = SupervisedCamera("top", section)
    mailbox = camera.subscribe()
    camera.start()
    try:
        assert mailbox.get(MAX_S).image.shape == (48, 64, 3)
        (program,) = programs()
    finally:
        camera.close()
    program.wait(MAX_S)  # raises where it is still there
