"""Node of ROS 2 that judges images with a model of edgead."""
