"""``python -m transferfn`` is the command `transferfn`."""

from __future__ import annotations

import sys

from transferfn.cli import main

sys.exit(main())
