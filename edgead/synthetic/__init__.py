"""Built-in synthetic production line: images, data sets and video of one part, with known defects."""

from edgead.synthetic.demo_defects import DEFECTS
from edgead.synthetic.line import conveyor, render
from edgead.synthetic.part import SIZE
from edgead.synthetic.recording import FrameTruth, load_truth, write_dataset, write_video

__all__ = ["DEFECTS", "SIZE", "FrameTruth", "conveyor", "load_truth", "render", "write_dataset", "write_video"]
