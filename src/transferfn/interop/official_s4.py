"""S4 and S4D parameters of the official implementation, read and written, github.com/state-spaces/s4 at e757cef."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from transferfn.core.discretize import Discretization
from transferfn.interop.official_arrays import Array, Shape, read_arrays, shape_of
from transferfn.nn.s4 import S4
from transferfn.nn.s4d import S4D

_ADVICE = (
    "These are the keys of an official FFTConv (models/s4/s4.py) with its kernel, without what surrounds them: take "
    "those below 'layer.' of an S4Block, that name removed, and leave out 'output_linear'."
)
_MINIMAL_ADVICE = "These are the keys of an official S4D (models/s4/s4d.py); leave out 'output_linear'."


def load_s4(state_dict: Mapping[str, Array], *, horizon: int | None = None) -> S4:
    """Build a layer that computes what an official ``FFTConv(mode="dplr")`` with these parameters computes.

    That is its sum alone, without activation, dropout and projection. The official options of the parametrization are
    those of its defaults: ``real_transform="exp"``, ``imag_transform="none"``, ``dt_transform="exp"``, ``dt_tie=True``,
    ``channels=1``. Sizes, tied copies, rank (1 or 2) and direction are read off the shapes.

    Args:
        state_dict: Official parameters: ``D`` and, each with ``kernel.`` in front, ``inv_dt``, ``A_real``, ``A_imag``,
            ``P``, ``B``, ``C`` and ``l_kernel``. Their type becomes that of the layer.
        horizon: Horizon of the layer in samples. None means ``l_kernel``, the length the official layer has been run
            at. Where that is 0, it has not been run yet, C is the true output vector, and the horizon must be given.

    Returns:
        The layer, in training mode like any new module.

    Raises:
        TypeError: if a parameter is no array of real floating-point numbers.
        ValueError: if a key is missing or left over, a shape does not fit the others, or the horizon is not known.

    Example:
        >>> zero, one = torch.zeros(4, 3), torch.ones(1, 4, 3, 2)
        >>> kernel = {"inv_dt": -torch.ones(4, 1), "A_real": zero, "A_imag": zero, "P": one, "B": one, "C": one}
        >>> parameters = {f"kernel.{name}": x for name, x in kernel.items()}
        >>> load_s4(parameters | {"kernel.l_kernel": torch.tensor(100), "D": torch.ones(1, 4)})
        S4(4, 6, horizon=100, measure='legs', groups=4)
    """
    arrays = dict(state_dict)
    length = arrays.pop("kernel.l_kernel", None)
    expected: dict[str, Shape] = _full_shapes(state_dict)
    expected = expected | {"kernel.P": ("R", "S", "M", 2)}
    if length is None:  # named with all the others
        read_arrays(arrays, expected | {"kernel.l_kernel": ()}, _ADVICE)
    x, sizes = read_arrays(arrays, expected, _ADVICE)
    _check_copies(sizes)
    if sizes["R"] > 2:
        raise ValueError(f"an S4 layer has a low rank part of rank 1 or 2, 'kernel.P' has one of rank {sizes['R']}")
    period = _samples(length)
    horizon = horizon or period
    if not horizon:
        raise ValueError(
            "'kernel.l_kernel' is 0: the official layer has not been run yet, so that no length is known. Pass horizon="
        )
    layer = S4(
        sizes["H"],
        2 * sizes["M"],
        horizon=period or horizon,
        measure="legt" if sizes["R"] == 2 else "legs",
        groups=sizes["S"],
        bidirectional=sizes["C"] == 2,
        dtype=x["D"].dtype,
    )
    values = _full_values(x) | {"P": x["kernel.P"].transpose(0, 1)}
    C = values.pop("C")
    layer.load_state_dict(layer.state_dict() | values | {"truncated_C": C})
    if not period:
        layer.assign_output_vector(torch.view_as_complex(C.contiguous()))
    return layer if horizon == layer.horizon else layer.with_horizon(horizon)


def load_s4d(state_dict: Mapping[str, Array], *, discretization: Discretization = "zoh") -> S4D:
    """Build a layer that computes what an official S4D layer with these parameters computes.

    That is its sum alone, without activation, dropout and projection. Both official forms are read: the minimal ``S4D``
    (``models/s4/s4d.py``), and ``FFTConv(mode="diag")`` (``models/s4/s4.py``) with the options that :func:`load_s4`
    names, ``bandlimit=None`` and ``is_real=False``. Sizes, tied copies and direction are read off the shapes.

    Args:
        state_dict: Official parameters: ``D`` and, each with ``kernel.`` in front, ``log_dt``, ``log_A_real``,
            ``A_imag`` and ``C`` of the minimal form, or ``inv_dt``, ``A_real``, ``A_imag``, ``B`` and ``C``. Their type
            becomes that of the layer.
        discretization: Official ``disc``; that of the minimal form is ``"zoh"``.

    Returns:
        The layer, in training mode like any new module.

    Raises:
        TypeError: if a parameter is no array of real floating-point numbers.
        ValueError: if a key is missing or left over, or a shape does not fit the others.

    Example:
        >>> kernel = {"log_dt": -torch.ones(4), "log_A_real": torch.zeros(4, 3), "A_imag": torch.zeros(4, 3)}
        >>> parameters = {f"kernel.{name}": x for name, x in kernel.items()}
        >>> load_s4d(parameters | {"kernel.C": torch.ones(4, 3, 2), "D": torch.ones(4)})
        S4D(4, 6, init='lin', discretization='zoh', groups=4)
    """
    if "kernel.log_dt" in state_dict:
        expected: dict[str, Shape] = {
            "D": ("H",),
            "kernel.log_dt": ("H",),
            "kernel.log_A_real": ("H", "M"),
            "kernel.A_imag": ("H", "M"),
            "kernel.C": ("H", "M", 2),
        }
        x, sizes = read_arrays(state_dict, expected, _MINIMAL_ADVICE)
        sizes |= {"S": sizes["H"], "C": 1}
        values = {name.removeprefix("kernel."): value for name, value in x.items()}
        values["B"] = torch.stack((torch.ones_like(values["A_imag"]), torch.zeros_like(values["A_imag"])), -1)
    else:
        x, sizes = read_arrays(state_dict, _full_shapes(state_dict), _ADVICE)
        _check_copies(sizes)
        values = _full_values(x)
    layer = S4D(
        sizes["H"],
        2 * sizes["M"],
        groups=sizes["S"],
        discretization=discretization,
        bidirectional=sizes["C"] == 2,
        dtype=x["D"].dtype,
    )
    layer.load_state_dict(values)
    return layer


def s4_state_dict(layer: S4) -> dict[str, Tensor]:
    """Official parameters of a layer, the inverse of :func:`load_s4`: renaming only, exact.

    Args:
        layer: The layer.

    Returns:
        Copies without derivatives, by the names of an ``FFTConv(mode="dplr")``; ``kernel.l_kernel`` is the horizon.

    Example:
        >>> layer = S4(4, 6, horizon=100)
        >>> bool((load_s4(s4_state_dict(layer)).truncated_C == layer.truncated_C).all())
        True
    """
    x = _detached(layer)
    low_rank = {"kernel.P": x["P"].transpose(0, 1).contiguous(), "kernel.l_kernel": torch.tensor(layer.horizon)}
    return _full_names(x | {"C": x["truncated_C"]}) | low_rank


def s4d_state_dict(layer: S4D, *, form: Literal["full", "minimal"] = "full") -> dict[str, Tensor]:
    """Official parameters of a layer, the inverse of :func:`load_s4d`: renaming only, exact.

    Args:
        layer: The layer, of complex modes.
        form: ``"full"``, the names of an ``FFTConv(mode="diag")`` to be built with the layer's ``discretization`` as
            ``disc``; or ``"minimal"``, those of the ``S4D`` of ``models/s4/s4d.py``, which has ``"zoh"``, one
            direction, a copy of the modes for each channel, and no B: C is multiplied by it.

    Returns:
        Copies without derivatives.

    Raises:
        ValueError: if the official code has no such layer, or the form is another one.

    Example:
        >>> sorted(s4d_state_dict(S4D(4, 6), form="minimal"))
        ['D', 'kernel.A_imag', 'kernel.C', 'kernel.log_A_real', 'kernel.log_dt']
    """
    if layer.init == "real":
        raise ValueError("official layers have complex modes, this one has real ones (init='real')")
    x = _detached(layer)
    if form == "full":
        return _full_names(x)
    if form != "minimal":
        raise ValueError(f"form is 'full' or 'minimal', got {form!r}")
    if layer.bidirectional or layer.discretization != "zoh":
        raise ValueError(
            f"the minimal S4D has one direction and discretization='zoh', this layer has bidirectional="
            f"{layer.bidirectional} and discretization={layer.discretization!r}: take form='full'"
        )
    copies = layer.channels // layer.groups
    C = torch.view_as_complex(x["C"]) * torch.view_as_complex(x["B"]).repeat(copies, 1)
    modes = {name: x[name].repeat(copies, 1) for name in ("log_A_real", "A_imag")}
    kernel = {"log_dt": x["log_dt"], **modes, "C": torch.view_as_real(C).contiguous()}
    return {"D": x["D"]} | {f"kernel.{name}": value for name, value in kernel.items()}


def _detached(layer: S4 | S4D) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in layer.state_dict().items()}


def _full_shapes(state_dict: Mapping[str, Array]) -> dict[str, Shape]:
    """What both kernels hold: H channels, S copies, M modes, and C outputs of the same states."""
    outputs = shape_of(state_dict, "D")[:1]
    if outputs and outputs != (1,) and len(shape_of(state_dict, "D")) == 2:
        raise ValueError(f"an official layer of several output channels, here {outputs[0]} rows of 'D', is not read")
    if shape_of(state_dict, "kernel.inv_dt")[1:] > (1,):
        raise ValueError(
            f"step sizes that differ among the modes of a channel are not read: 'kernel.inv_dt' should have shape "
            f"(H, 1), got {shape_of(state_dict, 'kernel.inv_dt')}. They belong to the official dt_tie=False."
        )
    return {
        "D": (1, "H"),
        "kernel.inv_dt": ("H", 1),
        "kernel.A_real": ("S", "M"),
        "kernel.A_imag": ("S", "M"),
        "kernel.B": (1, "S", "M", 2),
        "kernel.C": ("C", "H", "M", 2),
    }


def _check_copies(sizes: dict[str, int]) -> None:
    if sizes["H"] % sizes["S"]:
        raise ValueError(f"the {sizes['S']} rows of 'kernel.A_real' must divide the {sizes['H']} channels of 'D'")
    if sizes["C"] > 2:
        raise ValueError(
            f"'kernel.C' holds one output vector a channel, or two if the layer is bidirectional, got {sizes['C']}"
        )


def _full_values(x: dict[str, Tensor]) -> dict[str, Tensor]:
    C = x["kernel.C"]
    return {
        "log_dt": x["kernel.inv_dt"][:, 0],
        "log_A_real": x["kernel.A_real"],
        "A_imag": -x["kernel.A_imag"],
        "B": x["kernel.B"][0],
        "C": C if len(C) == 2 else C[0],
        "D": x["D"][0],
    }


def _full_names(x: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of :func:`_full_values`."""
    kernel = {
        "inv_dt": x["log_dt"][:, None],
        "A_real": x["log_A_real"],
        "A_imag": -x["A_imag"],
        "B": x["B"][None],
        "C": x["C"] if x["C"].dim() == 4 else x["C"][None],
    }
    return {"D": x["D"][None]} | {f"kernel.{name}": value for name, value in kernel.items()}


def _samples(length: object) -> int:
    """The official ``l_kernel``."""
    found = np.asarray(length.detach().cpu() if isinstance(length, Tensor) else length)
    if found.dtype.kind not in "iu" or found.size != 1 or found.item() < 0:
        raise ValueError(f"'kernel.l_kernel' should be one whole number of samples, got {length!r}")
    return found.item()
