"""What is known of each feature without a language model: its profile, and labels from it."""
