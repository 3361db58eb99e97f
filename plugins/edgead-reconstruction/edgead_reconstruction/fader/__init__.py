"""FADeR: gates of two layers that attenuate features of a defect, so that it is not reconstructed."""
