"""Analysis: what a bank of filters does, in numbers and pictures."""

from __future__ import annotations

from transferfn.analysis import plots as plots
