"""The artifact: a folder that holds a finished detector; its manifest lists every file with its hash."""
