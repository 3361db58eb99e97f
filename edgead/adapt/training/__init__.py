"""The training workflow: from a folder of good images to a finished artifact."""

# Preset whose settings depend on the machine, and the only detector that has it.
AUTO, AUTO_DETECTOR = "auto", "patchcore"
