"""Heads: the outputs of the network become scores and a map."""
