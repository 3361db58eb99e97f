"""The training workflow: from a folder of good images to a finished artifact."""

# The preset whose settings are chosen for a machine, and the one detector that has it.
AUTO, AUTO_DETECTOR = "auto", "patchcore"
