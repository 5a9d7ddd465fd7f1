"""Layers that mix sequences along time: in parallel, in chunks and sample by sample."""

from __future__ import annotations

from transferfn.nn.attention import Attention as Attention
from transferfn.nn.block import Block as Block
from transferfn.nn.guard import StateOverflowError as StateOverflowError
from transferfn.nn.hyena import Hyena as Hyena
from transferfn.nn.implicit import ImplicitFilter as ImplicitFilter
from transferfn.nn.lattice_realization import LatticeRealization as LatticeRealization
from transferfn.nn.long_conv import FixedConvolution as FixedConvolution
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
from transferfn.nn.state_space_realization import DPLRRealization as DPLRRealization
from transferfn.nn.state_space_realization import ModalRealization as ModalRealization
from transferfn.nn.stream import Stream as Stream
