"""The line: all code that runs a site. A detector is learnt, measured and used from Python without it."""
