"""`python -m maxage` is the command `maxage`."""

import sys

from maxage.cli import main

sys.exit(main())
