"""Programs that are slow for one known reason, each with its twin that is not."""
