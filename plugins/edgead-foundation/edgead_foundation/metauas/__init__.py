"""MetaUAS: segmentation of changes against one image of a good part."""
