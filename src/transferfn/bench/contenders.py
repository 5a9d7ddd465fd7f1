"""The layers of the library side by side, each as the paper's comparisons would use it."""

from __future__ import annotations

from typing import Literal

from transferfn.nn import LRU, RTF, S4, S4D, S5, Attention, Hyena, ImplicitFilter
from transferfn.nn.mixer import SequenceMixer

Contender = Literal[
    "RTF", "RTF (exact)", "S4", "S4D", "S5", "LRU", "Hyena", "Hyena-RTF", "attention"
]  # in the order of tables and pictures


def build(name: Contender, channels: int, order: int, length: int) -> SequenceMixer:
    """A layer with its initial parameters.

    Args:
        name: Which.
        channels: Number of channels D.
        order: Number of real states of a channel's filter; of S5 and LRU, whose channels share their states, of all of
            them. Hyena's implicit filter and attention have no such number.
        length: Length of the signals to come, the horizon of layers that have one.
    """
    match name:
        case "RTF":
            return RTF(channels, order, horizon=length)
        case "RTF (exact)":
            return RTF(channels, order, horizon=length, numerator="exact")
        case "S4":
            return S4(channels, order, horizon=length)
        case "S4D":
            return S4D(channels, order)
        case "S5":
            return S5(channels, order)
        case "LRU":
            return LRU(channels, order // 2)
        case "Hyena":
            return Hyena(channels, filter=lambda: ImplicitFilter(channels, horizon=length))
        case "Hyena-RTF":
            return Hyena(channels, filter=lambda: RTF(channels, order, horizon=length))
        case "attention":
            return Attention(channels, max(channels // 64, 1))


def has_order(name: Contender) -> bool:
    """Whether a layer has a number of states to choose.

    Args:
        name: Which.
    """
    return name not in ("Hyena", "attention")
