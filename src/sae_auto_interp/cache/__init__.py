"""The sparse feature cache on disk: layout, streaming writer, merge, reader. Numpy only.

One directory per module. `{first}_{last}.safetensors` holds `activations`, `locations` and `offsets` of the features
first..last, sorted by feature then location, so that one feature is one contiguous slice.
"""
