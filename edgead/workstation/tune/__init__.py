"""The search for the best detector within a latency budget."""

# The preset whose settings are chosen for a machine, and the one detector that has it.
AUTO, AUTO_DETECTOR = "auto", "patchcore"
