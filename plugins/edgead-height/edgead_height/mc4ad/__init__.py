"""MC4AD, after Liang et al. 2025: learns the displacement that made a defect, in millimetres."""
