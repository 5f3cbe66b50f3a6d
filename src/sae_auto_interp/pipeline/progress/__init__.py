"""What a run shows while it goes on, and what it ended with."""
