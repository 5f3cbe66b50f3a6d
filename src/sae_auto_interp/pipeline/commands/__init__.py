"""Commands beside the run: calibrate, check, demo, and what a reconstruction loses."""
