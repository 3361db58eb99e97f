"""Workstation: all that imports torch or onnx, but for `export/`; a device needs none of it."""
