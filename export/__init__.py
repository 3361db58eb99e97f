"""The workstation's way from a trained detector to a finished, proven artifact. Installed as `edgead.export`."""
