"""Data sets: folders of images, their labels and masks, and groups of images that belong together."""
