"""Plug-in of edgead that records trainings in TensorBoard and MLflow, and frames as OpenTelemetry traces."""
