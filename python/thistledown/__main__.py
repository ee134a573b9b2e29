"""``python -m thistledown``: the command line, as ``thistledown`` is."""

import sys

from thistledown._command import main

if __name__ == "__main__":
    sys.exit(main())
