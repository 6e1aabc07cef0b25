"""`python -m lookbehind.cli`."""

import sys

from lookbehind.cli import main

sys.exit(main())
