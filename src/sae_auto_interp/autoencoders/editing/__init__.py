"""Run the subject model with features changed: steer, ablate, and measure what it costs."""
