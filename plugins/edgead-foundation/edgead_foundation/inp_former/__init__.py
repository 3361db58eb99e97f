"""INP-Former: reconstruction of an image's features from prototypes of the same image, and its training."""
