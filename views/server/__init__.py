"""The routes beside the pages."""
