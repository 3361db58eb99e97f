"""The built-in production line: pictures, data sets and video of one part, with known defects."""

from edgead.demo.defects import DEFECTS
from edgead.demo.line import belt, render
from edgead.demo.part import SIZE
from edgead.demo.recording import FrameTruth, load_truth, write_dataset, write_video

__all__ = ["DEFECTS", "SIZE", "FrameTruth", "belt", "load_truth", "render", "write_dataset", "write_video"]
