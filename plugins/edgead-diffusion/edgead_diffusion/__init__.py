"""Generation of defects with a user's Stable Diffusion: SeaS (Dai et al. 2025) and AnoGen (Gui et al. 2024).

`attention_maps`, `seas_losses`, `seas_masks`, `seas_prompts`, `anogen_sampling` and `anogen_boxes` need only torch;
`stable_diffusion` opens the folder, and `seas` and `anogen` learn from defects and make new defects with it. Both need
a GPU.
"""
