"""What clients that run a model in this process share."""
