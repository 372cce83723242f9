"""The pages: they draw what the analysis says and decide nothing about it."""
