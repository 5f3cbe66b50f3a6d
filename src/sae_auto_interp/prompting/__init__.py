"""What is said to a language model and what it says: pure text, known to explainers, judges and scorers alike."""
