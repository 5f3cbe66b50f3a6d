"""Any name of a place in a model -> the one tensor that is there."""
