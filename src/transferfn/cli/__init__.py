"""The command `transferfn`."""

from __future__ import annotations

from transferfn.cli.commands import main as main
