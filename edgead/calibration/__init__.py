"""Thresholds with a guaranteed false-reject rate, from scores of good parts."""
