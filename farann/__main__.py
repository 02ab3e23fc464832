"""``python -m farann`` is ``farann``."""

import sys

from farann.cli import main

if __name__ == "__main__":
    sys.exit(main())
