"""Sample recordings, and the generator of the synthetic ones among them."""
