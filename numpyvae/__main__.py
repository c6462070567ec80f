"""`python -m numpyvae` is the command `numpyvae`."""

import sys

from .command.cli import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
