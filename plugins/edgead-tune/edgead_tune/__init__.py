"""Plug-in of edgead that searches for the best detector within a latency budget."""
