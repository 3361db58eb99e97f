"""One device of many: it follows a tag of a registry, reports what it judges by, and is seen by whoever asks."""
