"""Pages that stand alone: one file that loads nothing."""
