"""What a language model that sees images says of rejects: an opinion beside the facts, never a decision."""
