"""Training steps that need torch: int8 graphs of networks, and the machine's cycle."""
