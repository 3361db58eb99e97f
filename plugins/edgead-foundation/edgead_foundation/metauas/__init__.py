"""MetaUAS: changes against one image of a good part."""
