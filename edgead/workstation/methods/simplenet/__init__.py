"""SimpleNet: features of good parts against the same with noise."""
