"""FADeR: two layers that attenuate what a reconstruction knows of a defect."""
