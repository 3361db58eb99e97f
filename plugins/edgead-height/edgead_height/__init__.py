"""Heights for edgead: maps of point clouds and of two cameras, and detectors for height maps."""
