"""MC4AD, after Liang et al. 2025: learns how far a defect's surface is displaced, in millimetres."""
