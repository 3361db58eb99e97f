"""The search for the best detector within a latency budget, for edgead."""
