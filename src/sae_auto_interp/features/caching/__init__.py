"""The engine of `FeatureCache`: batches of rows -> codes, with what is needed beside."""
