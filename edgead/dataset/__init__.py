"""Folders of images, and which of them belong together."""
