"""Axis letters and shape aliases: the one vocabulary of every signature in the package.

======  =============================================================================
letter  meaning
======  =============================================================================
B       batch rows
L       length, in samples
D       channels, one filter each
G       distinct denominators; channel d uses row d * G // D
n       order of the filters
P       horizon: the period, in samples, of a truncated transfer function
S       complex states of a diagonal recurrence; papers write P or N
======  =============================================================================

``*bank`` stands for any leading axes, e.g. the two directions of a bidirectional layer.
The aliases are annotations only: nothing is checked at run time outside the tests.
"""

from __future__ import annotations

from typing import Any

from jaxtyping import Bool, Float, Int
from torch import Tensor

Numerator = Float[Tensor, "*bank D n"]
"""b_1..b_n, ascending powers of z^-1, strictly proper."""

Denominator = Float[Tensor, "*bank G n"]
"""a_1..a_n, the leading 1 left out."""

Feedthrough = Float[Tensor, "*bank D"]
"""h0, the response at t = 0."""

Kernel = Float[Tensor, "*bank D L"]
"""Samples 0..L-1 of an impulse response."""

Signal = Float[Tensor, "B L D"]
"""Batch, time, channels."""

Sample = Float[Tensor, "B D"]
"""One time step of a signal."""

FilterState = Float[Tensor, "B D n"]
"""The last n samples of w, the input filtered by 1/a, newest first."""

DiagonalState = Float[Tensor, "B S 2"]
"""The complex states of a diagonal recurrence, as real and imaginary parts."""

Lengths = Int[Tensor, " B"]
"""How many samples of each row count."""

Resets = Bool[Tensor, "B L"]
"""True where the state is cleared before the sample."""

State = Any
"""The state of a mixer: a pytree of tensors, batch first."""
