"""Export: from a trained detector to a finished, proven artifact. Installed as `edgead.export`."""
