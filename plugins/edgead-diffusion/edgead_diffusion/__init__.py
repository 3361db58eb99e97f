"""Defects made by a Stable Diffusion of the user: SeaS (Dai et al. 2025) and AnoGen (Gui et al. 2024).

What torch alone can do stands in `attention_maps`, `seas_losses`, `seas_masks`, `seas_prompts`, `anogen_sampling` and
`anogen_boxes`; `stable_diffusion` opens the folder, and `seas` and `anogen` learn from defects and make new ones with
it. Both need a GPU.
"""
