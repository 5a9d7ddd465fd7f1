"""Sequence layers given by rational transfer functions: trained in parallel, decoded as a recurrence, digital filters.

The layer is :class:`RTF`, the value behind it :class:`TransferFunction`.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

from transferfn.core.bank import select as select
from transferfn.core.bank import stack as stack
from transferfn.core.converted import Converted as Converted
from transferfn.core.doubt import IllConditionedWarning as IllConditionedWarning
from transferfn.core.from_matrices import from_state_space as from_state_space
from transferfn.core.minimal import minimal as minimal
from transferfn.core.modes import from_modal as from_modal
from transferfn.core.modes import to_modal as to_modal
from transferfn.core.rate import c2d as c2d
from transferfn.core.rate import d2c as d2c
from transferfn.core.rate import with_rate as with_rate
from transferfn.core.stability import UnstableFilterWarning as UnstableFilterWarning
from transferfn.core.state_space import StateSpace as StateSpace
from transferfn.core.system import TransferFunction as TransferFunction
from transferfn.core.system import TruncatedTransferFunction as TruncatedTransferFunction
from transferfn.interop.registration import await_transformers as _await_transformers
from transferfn.nn.attention import Attention as Attention
from transferfn.nn.guard import StateOverflowError as StateOverflowError
from transferfn.nn.hyena import Hyena as Hyena
from transferfn.nn.implicit import ImplicitFilter as ImplicitFilter
from transferfn.nn.lattice_realization import LatticeRealization as LatticeRealization
from transferfn.nn.lru import LRU as LRU
from transferfn.nn.mixer import NotCausalError as NotCausalError
from transferfn.nn.mixer import SequenceMixer as SequenceMixer
from transferfn.nn.realization import Realization as Realization
from transferfn.nn.realize import realize as realize
from transferfn.nn.realize_model import realize_model as realize_model
from transferfn.nn.rtf import RTF as RTF
from transferfn.nn.s4 import S4 as S4
from transferfn.nn.s4d import S4D as S4D
from transferfn.nn.s5 import S5 as S5
from transferfn.nn.section_realization import SectionRealization as SectionRealization
from transferfn.nn.short_conv import ShortConvolution as ShortConvolution
from transferfn.nn.stream import Stream as Stream
from transferfn.ops.filter import linear_filter as linear_filter
from transferfn.ops.filtfilt import filtfilt as filtfilt
from transferfn.ops.filtfilt import sosfiltfilt as sosfiltfilt
from transferfn.ops.lfilter import lfilter as lfilter
from transferfn.ops.lfilter import lfilter_zi as lfilter_zi
from transferfn.ops.lfilter import sosfilt as sosfilt
from transferfn.ops.lfilter import sosfilt_zi as sosfilt_zi

if TYPE_CHECKING:
    from transferfn.analysis.identify import fit as fit
    from transferfn.analysis.regressor import TransferFunctionRegressor as TransferFunctionRegressor

__version__ = version("transferfn")

_await_transformers()


def __getattr__(name: str) -> object:
    """Import identification when it is first asked for: it is an eighth of what the package takes to import."""
    if name in ("fit", "TransferFunctionRegressor"):
        from transferfn import analysis

        globals()[name] = getattr(analysis, name)
        return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), "fit", "TransferFunctionRegressor"})
