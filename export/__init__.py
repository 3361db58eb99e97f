"""Export of trained detectors to finished, verified artifacts. Installed as `edgead.export`."""
