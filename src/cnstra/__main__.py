"""``python -m cnstra`` is the command ``cnstra``."""

import sys

from cnstra.cli import main

sys.exit(main())
