"""INP-Former: what reconstructs an image's features from prototypes of the same image, and how that learns."""
