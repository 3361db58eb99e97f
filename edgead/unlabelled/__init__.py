"""Methods for images without labels: screening of unlabelled parts, and sorting of rejects into kinds."""
