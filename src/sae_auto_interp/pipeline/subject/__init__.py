"""What a run asks of the subject model besides the cache: logits, readings of texts."""
