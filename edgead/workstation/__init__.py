"""Workstation code: everything that imports torch or onnx, except `export/`; devices do not need it."""
