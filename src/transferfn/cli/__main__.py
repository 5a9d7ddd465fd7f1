"""Run the command as ``python -m transferfn.cli``."""

from __future__ import annotations

import sys

from transferfn.cli.commands import main

sys.exit(main())
