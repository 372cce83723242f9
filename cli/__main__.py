"""Lets ``python -m cli`` be the ``whyslow`` command."""

import sys

from cli.main import main

sys.exit(main())
