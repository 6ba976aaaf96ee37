"""`python -m advunlearn`: the same as the command."""

from __future__ import annotations

import sys

from advunlearn.cli import main

sys.exit(main())
