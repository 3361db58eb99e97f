"""CS-Flow: a normalising flow over features of several scales."""
