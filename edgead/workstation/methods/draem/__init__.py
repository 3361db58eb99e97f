"""DRAEM: a reconstruction and a segmentation, learnt from drawn defects."""
