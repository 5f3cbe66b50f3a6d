"""Activations -> sparse codes: products by tiles, and the choice of the largest on a CPU or a GPU."""
