"""``python -m star``, also under ``accelerate launch -m star``."""

import sys

from star.cli import main

sys.exit(main())
