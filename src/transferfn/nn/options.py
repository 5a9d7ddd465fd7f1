"""What an RTF layer can be asked for: the types of its options, and the checks on what callers pass."""

from __future__ import annotations

from typing import Literal, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor

from transferfn.core.bank import check_filters
from transferfn.core.checks import check_choice, check_whole
from transferfn.core.init import NumeratorKind as NumeratorKind
from transferfn.core.system import TransferFunction
from transferfn.ops.choice import Method

Constraint = Literal["l1", "reflection"]
NamedInit = Literal["resonators", "comb", "bands", "zeros", "xavier", "montel"]


@runtime_checkable
class Initializer(Protocol):
    """A function that draws the coefficients of a bank, such as those of :mod:`transferfn.core.init`."""

    def __call__(
        self,
        channels: int,
        order: int,
        *,
        horizon: int,
        denominator_groups: int,
        numerator: NumeratorKind,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return b (D, n), a (G, n) and h0 (D); for the lattice taps, reflection coefficients and h0.

        Args:
            channels: Number of channels D.
            order: Order n.
            horizon: Horizon P in samples.
            denominator_groups: Number of distinct denominators G.
            numerator: As what b and a will be read: as the truncated or the true numerator of a denominator, or as
                taps and reflection coefficients of the normalised lattice.
            generator: Source of randomness; None means PyTorch's default.
        """
        ...


Init = NamedInit | Initializer


def check_options(
    channels: int,
    order: int,
    horizon: int,
    denominator_groups: int,
    numerator: NumeratorKind,
    init: Init,
    constraint: Constraint | None,
    method: Method,
    kernel_dropout: float,
) -> None:
    """Raise unless the options of an RTF layer fit each other.

    Args:
        channels: Number of channels D.
        order: Order n.
        horizon: Horizon P in samples.
        denominator_groups: Number of distinct denominators G.
        numerator: Which numerator is learned.
        init: How coefficients are drawn.
        constraint: What keeps the denominator stable.
        method: How signals are filtered.
        kernel_dropout: Probability of dropping a tap of the kernel.
    """
    sizes = {"channels": channels, "order": order, "horizon": horizon, "denominator_groups": denominator_groups}
    for name, size in sizes.items():
        check_whole(name, size)
    if channels < 1 or order < 1:
        raise ValueError(f"channels and order must be at least 1, got channels={channels}, order={order}")
    if denominator_groups < 1 or channels % denominator_groups:
        raise ValueError(f"denominator_groups must divide channels={channels}, got {denominator_groups}")
    check_choice("numerator", numerator, get_args(NumeratorKind))
    check_horizon(horizon, order, numerator)
    check_choice("constraint", constraint, (None, *get_args(Constraint)))
    if numerator == "lattice" and constraint != "reflection":
        raise ValueError(
            f"numerator='lattice' weighs the states of a lattice, which reflection coefficients make: take "
            f"constraint='reflection' with it, got {constraint!r}, or numerator='exact'"
        )
    check_choice("method", method, get_args(Method))
    if not callable(init):
        check_choice("init", init, get_args(NamedInit), " or a function")
    if init == "bands" and numerator != "lattice":
        raise ValueError(
            "init='bands' draws poles that crowd, which only taps of a lattice hold: take numerator='lattice' with "
            f"constraint='reflection', got numerator={numerator!r}, or init='resonators'"
        )
    if init == "resonators" and constraint == "l1":
        raise ValueError(
            "constraint='l1' cannot hold resonators, whose |a_i| add up to more than 1: take constraint='reflection', "
            "which holds every stable filter, or init='comb'"
        )
    if not 0 <= kernel_dropout < 1:
        raise ValueError(f"kernel_dropout is a probability below 1, got {kernel_dropout}")
    if kernel_dropout and method in ("scan", "blocks"):
        raise ValueError(
            f"kernel_dropout drops taps of a kernel, which method={method!r} never forms; use 'fft' or 'auto'"
        )


def check_horizon(horizon: int, order: int, numerator: NumeratorKind) -> None:
    """Raise unless a numerator can be expressed relative to a horizon.

    Args:
        horizon: Horizon P in samples.
        order: Order n.
        numerator: Which numerator is learned.
    """
    if horizon < 1 and numerator != "truncated":
        raise ValueError(f"the horizon must be at least 1, got horizon={horizon}")
    if horizon <= order and numerator == "truncated":
        raise ValueError(
            f"the horizon must exceed the order, got horizon={horizon} for order={order}. It is the number of samples "
            f"the truncated numerator refers to; numerator='exact' has no such limit."
        )


def check_dtype(dtype: torch.dtype) -> None:
    """Raise unless coefficients can be of a type.

    Args:
        dtype: What the caller passed.
    """
    if not dtype.is_floating_point:
        raise ValueError(f"coefficients are of a real floating-point type, float32 or float64, not {dtype}")


def parameter_dtype(dtype: torch.dtype | None) -> torch.dtype:
    """Type of the parameters: the one asked for or PyTorch's default, float32 or wider.

    Args:
        dtype: What the caller passed.
    """
    dtype = dtype or torch.get_default_dtype()
    check_dtype(dtype)
    return torch.promote_types(dtype, torch.float32)


def check_draw(draw: object, channels: int, order: int, denominator_groups: int, numerator: NumeratorKind) -> None:
    """Raise unless what an initializer returned are coefficients as it was asked for.

    Args:
        draw: What it returned.
        channels: Number of channels D.
        order: Order n.
        denominator_groups: Number of distinct denominators G.
        numerator: Which numerator is learned.
    """
    expected = (channels, order), (denominator_groups, order), (channels,)
    wanted = f"init must return b (D, n), a (G, n) and h0 (D), here of the shapes {expected}"
    parts = draw if isinstance(draw, tuple | list) else [draw]
    tensors = [x for x in parts if isinstance(x, Tensor) and x.is_floating_point()]
    if len(parts) != 3 or len(tensors) != 3:
        found = ", ".join(str(x.dtype) if isinstance(x, Tensor) else type(x).__name__ for x in parts)
        raise TypeError(f"{wanted}, three real floating-point tensors, but returned {found}")
    if (found := tuple(tuple(x.shape) for x in tensors)) != expected:
        raise ValueError(f"{wanted}, but returned {found}")
    if numerator == "lattice" and (wrong := int((~(tensors[1].abs() < 1)).any(-1).sum())):
        raise ValueError(
            f"with numerator='lattice' init returns reflection coefficients within +-1 in the place of a, which only "
            f"stable filters have, but {wrong} of {denominator_groups} rows are not. Choose 'resonators', 'comb', "
            f"'bands', 'zeros' or 'montel'."
        )


def check_start(h: TransferFunction, constraint: Constraint | None) -> None:
    """Raise unless a layer can start as given filters.

    Args:
        h: The filters, meant to be (D, n), or (2, D, n) for both directions.
        constraint: What is to keep the layer's denominators stable.
    """
    check_filters(h)
    if h.b.dim() != 2 and h.b.shape[:-2] != (2,):
        raise ValueError(f"expected one bank (D, n), or one for each direction (2, D, n), got {tuple(h.b.shape)}")
    total = h.a.abs().sum(-1)
    if constraint == "l1" and not bool((total < 1).all()):
        raise ValueError(
            f"constraint='l1' holds denominators whose |a_i| add up to less than 1, got up to "
            f"{float(total.max()):.3g}: take constraint='reflection', which holds every stable filter, or None"
        )
