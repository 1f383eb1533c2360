"""`python -m hatex`."""

import sys

from hatex.cli import main

sys.exit(main())
