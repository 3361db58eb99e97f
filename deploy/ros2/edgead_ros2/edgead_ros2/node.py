"""Node `edgead`: subscribes `image`, publishes `~/verdict` (JSON) and `~/heat_map` (an image)."""

from __future__ import annotations

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import String

from edgead import Detector
from edgead.images.overlay import draw_heat
from edgead_ros2.messages import fill_image, to_array, verdict_text


class Inspector(Node):
    """Judges images; of those that come while one is being judged, the newest. What cannot be judged is a `fault`.

    Its parameters are `model`, the folder of a model, and `best_effort`, for cameras that publish so: of these, large
    images can be lost on their way, which nobody notices.
    """

    def __init__(self) -> None:
        super().__init__("edgead")
        model = self.declare_parameter("model", "").value
        if not model:
            raise SystemExit("the parameter `model` is missing: --ros-args -p model:=FOLDER")
        self._detector = Detector.load(model)
        self._verdicts = self.create_publisher(String, "~/verdict", 10)
        self._heat_maps = self.create_publisher(Image, "~/heat_map", 1)
        best_effort = self.declare_parameter("best_effort", False).value
        reliability = ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE
        self.create_subscription(Image, "image", self.judge, QoSProfile(depth=1, reliability=reliability))

    def judge(self, message: Image) -> None:
        """Publish the verdict on an image, and its heat map where somebody subscribes to it."""
        try:
            verdict = self._detector.predict(to_array(message))
        except ValueError as error:
            self.get_logger().error(f"no verdict: {error}", throttle_duration_sec=5.0)
            fault = {"decision": "fault", "error": str(error)}
            self._verdicts.publish(String(data=verdict_text(message.header, fault)))
            return
        self._verdicts.publish(String(data=verdict_text(message.header, verdict.to_dict())))
        if self._heat_maps.get_subscription_count():
            drawn = draw_heat(verdict.load_image(), verdict)
            self._heat_maps.publish(fill_image(Image(), drawn, message.header))


def main() -> None:
    """Run the node until it is stopped."""
    rclpy.init()
    try:
        rclpy.spin(Inspector())
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
