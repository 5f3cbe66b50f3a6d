"""What clients over HTTP share: one request, its refusals, what its endpoint can do."""
