"""Production figures of an evidence store: counts and yield by shift, day, order, batch and recipe, and files of them."""
