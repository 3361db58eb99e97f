"""AnomalyCLIP: learnt prompts that work for any product."""
