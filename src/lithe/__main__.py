"""`python -m lithe`: the command line, for a Python whose scripts are on no path."""

import sys

from lithe.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
