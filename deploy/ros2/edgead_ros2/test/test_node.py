"""The node between a real publisher and a real subscriber (rclpy); the model is a stand-in."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
import rclpy
from edgead_ros2.messages import fill_image, to_array
from edgead_ros2.node import Inspector
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image
from std_msgs.msg import Header, String

from edgead import Detector
from edgead.images.verdict import ImageVerdict
from edgead.types import Box, StageTimes


class Brightness:
    """A detector for which an image's brightest pixel is its score."""

    def predict(self, image):
        score = float(image.max())
        decision, boxes = ("reject", (Box(1, 2, 3, 4, score, "top left"),)) if score > 100 else ("ok", ())
        maps = np.full((4, 4), score, np.float32)
        times = StageTimes(0, 0, 0, 0)
        return ImageVerdict(score, decision, maps, 100, 100, boxes, times, image=image, shape=image.shape[:2])


@pytest.fixture
def line(monkeypatch):
    """What subscribers got, and a function that publishes an image and waits until they have so many."""
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.setattr(Detector, "load", lambda path: Brightness())
    rclpy.init(args=["--ros-args", "-p", "model:=folder"])
    node, other = Inspector(), rclpy.create_node("line")
    got = {"verdict": [], "heat_map": []}
    other.create_subscription(String, "edgead/verdict", got["verdict"].append, 10)
    other.create_subscription(Image, "edgead/heat_map", got["heat_map"].append, 10)
    publisher = other.create_publisher(Image, "image", 10)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    executor.add_node(other)
    until(executor, lambda: publisher.get_subscription_count() and node._heat_maps.get_subscription_count())

    def publish(message, **wanted):
        publisher.publish(message)
        until(executor, lambda: all(len(got[name]) == count for name, count in wanted.items()))

    yield got, publish
    rclpy.shutdown()


def until(executor, condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it did not come about in time"
        executor.spin_once(timeout_sec=0.05)


def image(value, sec=7):
    header = Header(frame_id="camera_1")
    header.stamp.sec = sec
    return fill_image(Image(), np.full((20, 30, 3), value, np.uint8), header)


def test_each_image_gets_a_verdict_with_its_time_and_a_heat_map(line):
    got, publish = line
    publish(image(40), verdict=1, heat_map=1)
    publish(image(200, sec=8), verdict=2, heat_map=2)
    good, bad = (json.loads(message.data) for message in got["verdict"])
    assert (good["decision"], good["boxes"], good["stamp"]["sec"]) == ("ok", [], 7)
    assert (bad["decision"], bad["image_score"], bad["frame_id"]) == ("reject", 200, "camera_1")
    assert bad["boxes"][0]["width"] == 3
    heat = got["heat_map"][1]
    assert heat.header.stamp.sec == 8 and to_array(heat).shape == (20, 30, 3)
    assert (to_array(heat) != 200).any()


def test_what_cannot_be_judged_is_a_fault_and_the_next_image_is_judged(line):
    got, publish = line
    message = image(40)
    message.encoding = "yuv422"
    publish(message, verdict=1, heat_map=0)
    publish(image(40), verdict=2, heat_map=1)
    fault, good = (json.loads(message.data) for message in got["verdict"])
    assert fault["decision"] == "fault" and "'yuv422' is not taken" in fault["error"] and good["decision"] == "ok"


def test_a_node_without_a_model_says_what_to_give():
    rclpy.init()
    try:
        with pytest.raises(SystemExit, match="-p model:=FOLDER"):
            Inspector()
    finally:
        rclpy.shutdown()
