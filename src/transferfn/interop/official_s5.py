"""S5 parameters of the official implementation, read and written, github.com/lindermanlab/S5 at 3c18fdb."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from transferfn.core.discretize import Discretization
from transferfn.interop.official_arrays import Array, Shape, read_arrays, shape_of
from transferfn.nn.s5 import S5


def load_s5(
    params: Mapping[str, Array],
    *,
    discretization: Discretization = "zoh",
    conj_sym: bool = True,
    clip_eigenvalues: bool = False,
    step_scale: float = 1.0,
) -> S5:
    """Build a layer that computes what an official ``S5SSM`` with these parameters computes.

    Sizes and direction are read off the names and shapes. What cannot be told from them must be said as the layer was
    built: another value gives another function, without an error.

    Args:
        params: Flax parameters of one ``S5SSM``, those that an official checkpoint has below ``seq``: ``Lambda_re``,
            ``Lambda_im``, ``B``, ``D``, ``log_step``, and ``C``, or ``C1`` and ``C2`` of both directions. Arrays of
            JAX, NumPy or PyTorch; their type becomes that of the layer.
        discretization: Official ``discretization``.
        conj_sym: Official ``conj_sym``: whether one of each pair of conjugate states is kept.
        clip_eigenvalues: Official ``clip_eigs``.
        step_scale: Official ``step_rescale``.

    Returns:
        The layer, in training mode like any new module.

    Raises:
        TypeError: if a parameter is no array of real floating-point numbers.
        ValueError: if a key is missing or left over, or a shape does not fit the others.

    Example:
        >>> vectors = {name: torch.zeros(8) for name in ("Lambda_re", "Lambda_im")}
        >>> matrices = {"B": torch.ones(8, 4, 2), "C": torch.ones(4, 8, 2), "log_step": torch.ones(8, 1)}
        >>> load_s5(vectors | matrices | {"D": torch.ones(4)})
        S5(4, 16, blocks=1, discretization='zoh')
    """
    apart = "C1" in params or "C2" in params
    expected: dict[str, Shape] = {
        "Lambda_re": ("P",),
        "Lambda_im": ("P",),
        "log_step": ("P", 1),
        "D": ("H",),
        "B": ("P", "H", 2),
    }
    expected = expected | ({"C1": ("H", "P", 2), "C2": ("H", "P", 2)} if apart else {"C": ("H", "Q", 2)})
    x, sizes = read_arrays(
        params,
        expected,
        "These are the parameters of one S5SSM; a bidirectional one has 'C1' and 'C2' in place of 'C', unless its "
        "C_init is 'complex_normal'.",
    )
    both = apart or sizes["Q"] == 2 * sizes["P"]
    if not both and sizes["Q"] != sizes["P"]:
        raise ValueError(
            f"'C' should have shape (H, P, 2), or (H, 2 P, 2) for both directions, with H={sizes['H']}, "
            f"P={sizes['P']}, got {shape_of(params, 'C')}"
        )
    layer = S5(
        sizes["H"],
        sizes["P"] * (2 if conj_sym else 1),
        discretization=discretization,
        conj_sym=conj_sym,
        clip_eigenvalues=clip_eigenvalues,
        bidirectional=both,
        step_scale=step_scale,
        dtype=x["D"].dtype,
    )
    C = (x["C1"], x["C2"]) if apart else x["C"].chunk(2, 1) if both else None
    values = {
        "eigenvalue_real": x["Lambda_re"],
        "eigenvalue_imag": x["Lambda_im"],
        "log_step": x["log_step"][:, 0],
        "input_matrix": x["B"],
        "output_matrix": x["C"] if C is None else torch.stack(C),
        "feedthrough": x["D"],
    }
    layer.load_state_dict(values)
    return layer


def s5_params(layer: S5) -> dict[str, np.ndarray]:
    """Official parameters of a layer, the inverse of :func:`load_s5`: renaming only, exact.

    Args:
        layer: The layer. Its ``discretization``, ``conj_sym``, ``clip_eigenvalues`` and ``step_scale`` are no
            parameters: build the official layer with them.

    Returns:
        The arrays of one ``S5SSM``, copied: ``Lambda_re``, ``Lambda_im``, ``B``, ``D``, ``log_step``, and ``C``, or
        ``C1`` and ``C2`` of both directions.

    Raises:
        ValueError: if the directions of a layer do not share the current sample, as official ones do.

    Example:
        >>> sorted(s5_params(S5(4, 16, bidirectional=True)))
        ['B', 'C1', 'C2', 'D', 'Lambda_im', 'Lambda_re', 'log_step']
    """
    if layer.bidirectional and not layer.shared_sample:
        raise ValueError(
            "both directions of an official layer contain the current sample, this has shared_sample=False"
        )
    C = layer.output_matrix
    values = {
        "Lambda_re": layer.eigenvalue_real,
        "Lambda_im": layer.eigenvalue_imag,
        "log_step": layer.log_step[:, None],
        "B": layer.input_matrix,
        "D": layer.feedthrough,
    } | ({"C1": C[0], "C2": C[1]} if layer.bidirectional else {"C": C})
    return {name: value.numpy(force=True).copy() for name, value in values.items()}
