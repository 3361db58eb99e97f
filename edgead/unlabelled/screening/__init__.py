"""Screening: a pile of parts that nobody has labelled, ranked by how far each is from what most others show."""
