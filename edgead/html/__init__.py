"""Self-contained HTML pages: one file that loads nothing else."""
