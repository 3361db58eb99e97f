"""Detectors of clips: what comes next is predicted from the frames before."""
