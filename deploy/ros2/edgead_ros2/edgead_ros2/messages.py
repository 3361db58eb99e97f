"""Images of ROS 2 as arrays, verdicts as messages; without a package of ROS, which its messages come from."""

from __future__ import annotations

import json
from array import array
from typing import Any

import numpy as np

_ORDER = {"mono8": (0,), "8UC1": (0,), "mono16": (0,), "16UC1": (0,), "bgr8": (0, 1, 2), "8UC3": (0, 1, 2)}
_ORDER |= {"rgb8": (2, 1, 0), "bgra8": (0, 1, 2, 3), "8UC4": (0, 1, 2, 3), "rgba8": (2, 1, 0, 3)}
"""Of each encoding of sensor_msgs/Image that is taken: where blue, green and red stand, or grey, and alpha."""


def to_array(image: Any) -> np.ndarray:
    """Read a sensor_msgs/Image.

    Parameters
    ----------
    image : sensor_msgs.msg.Image
        Rows may be longer than their pixels (`step`), and 16 bits of either order of bytes.

    Returns
    -------
    pixels : ndarray of shape (H, W) or (H, W, 3), uint8 or uint16, BGR
        A copy; alpha is left out.

    Raises
    ------
    ValueError
        The encoding is none of those that are taken, or there are fewer bytes than the sizes say.
    """
    if image.encoding not in _ORDER:
        raise ValueError(f"encoding {image.encoding!r} is not taken: publish one of {', '.join(_ORDER)}")
    order = _ORDER[image.encoding]
    pixel = np.dtype("u2" if "16" in image.encoding else "u1").newbyteorder(">" if image.is_bigendian else "<")
    row = image.width * len(order) * pixel.itemsize
    data = np.frombuffer(image.data, np.uint8)
    if not row or image.step < row or data.size < image.step * image.height or not image.height:
        raise ValueError(
            f"{data.size} bytes in rows of {image.step} are no image of {image.width} x {image.height} {image.encoding}"
        )
    rows = data[: image.step * image.height].reshape(image.height, image.step)[:, :row]
    pixels = np.ascontiguousarray(rows).view(pixel).astype(pixel.newbyteorder("="), copy=False)
    if len(order) == 1:
        return pixels
    return np.ascontiguousarray(pixels.reshape(image.height, image.width, len(order))[:, :, order[:3]])


def fill_image(image: Any, pixels: np.ndarray, header: Any) -> Any:
    """Write pixels, (H, W, 3) uint8 BGR, into an empty sensor_msgs/Image; gives it back."""
    image.header = header
    image.height, image.width = pixels.shape[:2]
    image.encoding, image.is_bigendian, image.step = "bgr8", 0, pixels.shape[1] * 3
    image.data = array("B", pixels.tobytes())  # anything else is copied value by value
    return image


def verdict_text(header: Any, verdict: dict[str, Any]) -> str:
    """Write a verdict as JSON, with time and frame of its image, by which a subscriber joins the two."""
    stamp = {"sec": header.stamp.sec, "nanosec": header.stamp.nanosec}
    return json.dumps({"stamp": stamp, "frame_id": header.frame_id, **verdict}, allow_nan=False)
