"""Text to token rows: where documents come from, and how they are cut into what the subject model reads."""
