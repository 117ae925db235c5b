"""``python -m service`` is ``creps``, also where no script of that name is on PATH."""

import sys

from service.cli import main

sys.exit(main())
