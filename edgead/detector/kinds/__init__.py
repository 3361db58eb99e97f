"""The kinds of rejects that a model knows: of which one is a reject, and was such a one ever seen? Pure numpy."""
