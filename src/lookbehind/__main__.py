"""`python -m lookbehind`."""

import sys

from lookbehind.cli import main

sys.exit(main())
