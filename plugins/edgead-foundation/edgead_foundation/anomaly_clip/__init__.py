"""AnomalyCLIP: learnt prompts for any product."""
