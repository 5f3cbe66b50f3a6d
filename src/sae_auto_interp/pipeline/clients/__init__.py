"""A run's clients: composed, counted, and what texts the model reads."""
