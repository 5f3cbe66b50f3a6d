"""Before caching: does the autoencoder fit the activations of its site, and if not, why."""
