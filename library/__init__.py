"""The library: recordings that were opened, and what the analysis said about them."""
