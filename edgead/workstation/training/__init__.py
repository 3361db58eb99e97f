"""The training workflow: from a folder of good images to a finished artifact."""
