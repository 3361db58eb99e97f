"""SimpleNet: a discriminator of good parts' features from the same features with noise."""
