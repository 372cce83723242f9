"""The ``whyslow`` command."""
