"""Trainings in TensorBoard and MLflow, frames as traces of OpenTelemetry, for edgead."""
