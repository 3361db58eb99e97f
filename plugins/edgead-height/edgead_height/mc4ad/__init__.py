"""MC4AD, after Liang et al. 2025: learn the push that made a defect, and say it in millimetres."""
