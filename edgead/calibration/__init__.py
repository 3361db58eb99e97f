"""From scores of good parts to thresholds with a guaranteed false-reject rate."""
