"""Messages of the example node of ROS 2 (deploy/ros2), of the published fields of sensor_msgs/Image; without ROS 2.

The node itself has tests beside it, which need rclpy.
"""

from __future__ import annotations

import json
import sys
from array import array
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pytest
from verdicts import Line

PACKAGE = Path(__file__).parents[2] / "deploy/ros2/edgead_ros2"


@pytest.fixture(scope="module")
def messages():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PACKAGE)
        from edgead_ros2 import messages

        yield messages
        for name in ("edgead_ros2", "edgead_ros2.messages"):
            sys.modules.pop(name)


HEADER = SimpleNamespace(stamp=SimpleNamespace(sec=7, nanosec=9), frame_id="camera_1")
BGR = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
ALPHA = np.full((2, 3, 1), 255, np.uint8)


def message(pixels, encoding, padding=0, **other):
    """A sensor_msgs/Image, whose data is an array of bytes in rclpy."""
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(pixels.shape[0], -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=99)
    height, width = pixels.shape[:2]
    fields = {"height": height, "width": width, "step": rows.shape[1], "is_bigendian": 0, "encoding": encoding}
    return SimpleNamespace(header=HEADER, data=array("B", rows.tobytes()), **{**fields, **other})


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    "encoding, sent",
    [
        ("bgr8", BGR),
        ("8UC3", BGR),
        ("rgb8", BGR[:, :, ::-1]),
        ("bgra8", np.dstack([BGR, ALPHA])),
        ("rgba8", np.dstack([BGR[:, :, ::-1], ALPHA])),
    ],
)
def test_colours_come_as_bgr(messages, encoding, sent, padding):
    found = messages.to_array(message(sent, encoding, padding))
    assert found.dtype == np.uint8 and np.array_equal(found, BGR)


@pytest.mark.parametrize("padding", [0, 4])
def test_grey_comes_as_it_is_in_either_order_of_bytes(messages, padding):
    grey = BGR[:, :, 0]
    assert np.array_equal(messages.to_array(message(grey, "mono8", padding)), grey)
    deep = (grey.astype(np.uint16) + 1) * 300
    for order, big in (("<u2", 0), (">u2", 1)):
        found = messages.to_array(message(deep.astype(order), "mono16", padding, is_bigendian=big))
        assert found.dtype == np.uint16 and found.dtype.isnative and np.array_equal(found, deep)


@pytest.mark.parametrize(
    "damage, why",
    [
        ({"encoding": "yuv422"}, "encoding 'yuv422' is not taken: publish one of mono8"),
        ({"data": array("B", bytes(17))}, "17 bytes in rows of 9 are no image of 3 x 2 bgr8"),
        ({"step": 8}, "18 bytes in rows of 8"),
        ({"height": 0}, "no image of 3 x 0"),
        ({"width": 0}, "no image of 0 x 2"),
        ({"height": 2**32 - 1}, "18 bytes in rows of 9"),
    ],
)
def test_what_is_no_image_is_refused(messages, damage, why):
    image = message(BGR, "bgr8")
    image.__dict__.update(damage)
    with pytest.raises(ValueError, match=why):
        messages.to_array(image)


def test_what_is_sent_is_read_again(messages):
    sent = messages.fill_image(SimpleNamespace(), BGR, HEADER)
    assert (sent.header, sent.step, type(sent.data)) == (HEADER, 9, array)
    assert np.array_equal(messages.to_array(sent), BGR)


def test_a_verdict_has_the_time_of_its_image(messages):
    _, verdict = Line("caps").part(0.9)
    said = json.loads(messages.verdict_text(HEADER, verdict.to_dict()))
    assert said.pop("stamp") == {"sec": 7, "nanosec": 9} and said.pop("frame_id") == "camera_1"
    assert said == json.loads(verdict.to_json())


def test_the_package_is_of_one_name_and_version():
    """What colcon reads of it: package.xml, the marker of the index, and setup.py agree."""
    root = ElementTree.parse(PACKAGE / "package.xml").getroot()
    name = root.findtext("name")
    assert name == PACKAGE.name and (PACKAGE / "resource" / name).is_file() and (PACKAGE / name / "node.py").is_file()
    setup = (PACKAGE / "setup.py").read_text()
    assert f'NAME = "{name}"' in setup and f'version="{root.findtext("version")}"' in setup
    assert root.findtext("export/build_type") == "ament_python"
