"""The mathematics of one bank of transfer functions: pure functions of tensors, and the values made of them."""

from __future__ import annotations

from transferfn.core.bank import select as select
from transferfn.core.bank import stack as stack
from transferfn.core.converted import Converted as Converted
from transferfn.core.dense import DenseSystem as DenseSystem
from transferfn.core.doubt import IllConditionedWarning as IllConditionedWarning
from transferfn.core.dplr import DPLR as DPLR
from transferfn.core.dplr import DiscreteDPLR as DiscreteDPLR
from transferfn.core.from_matrices import from_state_space as from_state_space
from transferfn.core.kernel import aliased_kernel as aliased_kernel
from transferfn.core.kernel import conditioning as conditioning
from transferfn.core.kernel import impulse_response as impulse_response
from transferfn.core.minimal import minimal as minimal
from transferfn.core.modal import ModalSystem as ModalSystem
from transferfn.core.modes import from_modal as from_modal
from transferfn.core.modes import to_modal as to_modal
from transferfn.core.rate import c2d as c2d
from transferfn.core.rate import d2c as d2c
from transferfn.core.rate import with_rate as with_rate
from transferfn.core.stability import Stability as Stability
from transferfn.core.stability import UnstableFilterWarning as UnstableFilterWarning
from transferfn.core.stability import spectral_radius as spectral_radius
from transferfn.core.stability import stability as stability
from transferfn.core.state_space import StateSpace as StateSpace
from transferfn.core.system import TransferFunction as TransferFunction
from transferfn.core.system import TruncatedTransferFunction as TruncatedTransferFunction
