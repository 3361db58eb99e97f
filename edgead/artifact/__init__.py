"""The artifact: a folder that holds a finished detector, every file named by its hash in the manifest."""
