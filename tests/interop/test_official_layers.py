"""Official parameters of S4, S4D and S5, under their official names, give the kernels and outputs of the goldens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from laws.tolerance import relative_error
from nn.golden import TOLERANCES, cases, pairs
from nn.layers import untyped
from transferfn.interop.official_s4 import load_s4, load_s4d, s4_state_dict, s4d_state_dict
from transferfn.interop.official_s5 import load_s5, s5_params
from transferfn.nn import S4, S4D, S5

S4_CASES, S4D_CASES, S5_CASES = cases("s4"), cases("s4d"), cases("s5")
types = pytest.mark.parametrize("dtype", TOLERANCES, ids=["f64", "f32"])


def full(f: Mapping[str, Tensor], C: Tensor) -> dict[str, Tensor]:
    """Parameters as ``FFTConv.state_dict()`` names and shapes them."""
    return {
        "D": f["D"][None],
        "kernel.inv_dt": f["log_dt"][:, None],
        "kernel.A_real": f["A_real_param"],
        "kernel.A_imag": f["A_imag_param"],
        "kernel.B": pairs(f["B"])[None],
        "kernel.C": pairs(C if C.dim() == 3 else C[None]),
    }


def official_s4(case: str, *, fresh: bool = False) -> dict[str, Tensor]:
    """``fresh``: as before the first forward pass."""
    f = S4_CASES[case]
    length = torch.tensor(0) if fresh else f["l_kernel"]
    parameters = full(f, f["C"] if fresh else f["C_tilde"])
    return parameters | {"kernel.P": pairs(f["P"])[None], "kernel.l_kernel": length}


def official_s4d(case: str) -> dict[str, Tensor]:
    f = S4D_CASES[case]
    if case.startswith("full"):
        return full(f, f["C"])
    named = {"log_dt": f["log_dt"], "log_A_real": f["log_A_real"], "A_imag": f["A_imag"], "C": pairs(f["C"])}
    return {"D": f["D"]} | {f"kernel.{name}": x for name, x in named.items()}


def official_s5(case: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    f = S5_CASES[case]
    C = {"C": pairs(f["C"])}
    if f["bidirectional"] and "complex_normal" not in case:
        C = {f"C{k}": pairs(half) for k, half in enumerate(f["C"].chunk(2, 1), 1)}
    parameters = {
        "Lambda_re": f["Lambda"].real,
        "Lambda_im": f["Lambda"].imag,
        "B": pairs(f["B"]),
        "D": f["D"],
        "log_step": f["log_step"][:, None],
    }
    options = {
        "discretization": "bilinear" if f["bilinear"] else "zoh",
        "conj_sym": bool(f["conj_sym"]),
        "clip_eigenvalues": bool(f["clip_eigs"]),
        "step_scale": float(f["step_rescale"]),
    }
    return {name: x.numpy() for name, x in (parameters | C).items()}, options


def cast(parameters: Mapping[str, Any], dtype: torch.dtype) -> dict[str, Tensor]:
    as_tensors = {name: torch.as_tensor(x) for name, x in parameters.items()}
    return {name: x.to(dtype) if x.is_floating_point() else x for name, x in as_tensors.items()}


def check_kernel(layer: S4 | S4D, f: Mapping[str, Tensor], dtype: torch.dtype) -> None:
    assert {x.dtype for x in layer.parameters()} == {dtype}
    assert all(x.requires_grad for x in layer.parameters())
    k = layer.kernel(int(f["L"])).detach()
    k[(0,) * layer.bidirectional + (..., 0)] -= layer.D.detach()
    assert relative_error(k, f["K"]) <= TOLERANCES[dtype]
    assert relative_error(layer(f["u"].mT.to(dtype)).mT, f["y"]) <= TOLERANCES[dtype]


@types
@pytest.mark.parametrize("fresh", [False, True], ids=["trained", "fresh"])
@pytest.mark.parametrize("case", S4_CASES)
def test_s4(case: str, fresh: bool, dtype: torch.dtype) -> None:
    """Whether the official C is the true one or already the truncated one."""
    f = S4_CASES[case]
    horizon = int(f["l_kernel"])
    layer = load_s4(cast(official_s4(case, fresh=fresh), dtype), horizon=horizon if fresh else None)
    assert layer.horizon == horizon
    assert relative_error(layer.truncated_C, pairs(f["C_tilde"])) <= TOLERANCES[dtype]
    check_kernel(layer, f, dtype)


def test_s4_relative_to_another_horizon() -> None:
    f = S4_CASES["random_even"]
    layer = load_s4(official_s4("random_even"), horizon=101)
    assert layer.horizon == 101
    check_kernel(layer, f, torch.float64)


def test_s4_of_rank_two() -> None:
    """A second factor of zero changes nothing, one that is there does."""
    f, parameters = S4_CASES["random_even"], official_s4("random_even", fresh=True)
    P = parameters["kernel.P"]
    layer = load_s4(parameters | {"kernel.P": torch.cat((torch.zeros_like(P), P))}, horizon=64)
    assert layer.rank == 2
    check_kernel(layer, f, torch.float64)
    twice = load_s4(parameters | {"kernel.P": torch.cat((P, P))}, horizon=64)
    once = load_s4(parameters | {"kernel.P": 2**0.5 * P}, horizon=64)
    assert relative_error(twice.kernel(64), once.kernel(64)) < 1e-12
    assert relative_error(twice.kernel(64), layer.kernel(64)) > 1e-3


@types
@pytest.mark.parametrize("case", S4D_CASES)
def test_s4d(case: str, dtype: torch.dtype) -> None:
    f = S4D_CASES[case]
    options: dict[str, Any] = {"discretization": "bilinear"} if f.get("bilinear") else {}
    check_kernel(load_s4d(cast(official_s4d(case), dtype), **options), f, dtype)


def test_s4d_in_both_directions() -> None:
    """The second row of C answers to the future, as in the official FFTConv."""
    parameters = official_s4d("full_zoh")
    C = parameters["kernel.C"]
    layer = load_s4d(parameters | {"kernel.C": torch.cat((C, 2 * C))})
    f = S4D_CASES["full_zoh"]
    k = layer.kernel(int(f["L"])).detach()
    assert layer.bidirectional
    assert relative_error(k[1], 2 * f["K"]) < 1e-12


@types
@pytest.mark.parametrize("case", S5_CASES)
def test_s5(case: str, dtype: torch.dtype) -> None:
    f = S5_CASES[case]
    parameters, options = official_s5(case)
    layer = load_s5(cast(parameters, dtype), **options)
    assert layer.bidirectional == bool(f["bidirectional"])
    assert {x.dtype for x in layer.parameters()} == {dtype}
    assert relative_error(layer(f["u"][None].to(dtype))[0], f["y"]) <= TOLERANCES[dtype]
    system = layer.state_space()
    assert relative_error(pairs(system.a), pairs(f["Lambda_bar"])) <= TOLERANCES[dtype]
    assert relative_error(pairs(system.B), pairs(f["B_bar"])) <= TOLERANCES[dtype]


def assert_equal(found: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    assert set(found) == set(given)
    for name, x in given.items():
        np.testing.assert_array_equal(
            np.asarray(found[name]), np.asarray(x), err_msg=name, strict=name != "kernel.l_kernel"
        )


@types
@pytest.mark.parametrize("case", S4_CASES)
def test_s4_leads_back(case: str, dtype: torch.dtype) -> None:
    """All of these by their official names and shapes, to the last digit: renaming only."""
    given = cast(official_s4(case), dtype)
    assert_equal(s4_state_dict(load_s4(given)), given)
    P = given["kernel.P"]
    C = given["kernel.C"][:1]
    given |= {"kernel.P": torch.cat((P, 2 * P)), "kernel.C": torch.cat((C, C + 1))}  # rank 2, both directions
    assert_equal(s4_state_dict(load_s4(given)), given)


@types
@pytest.mark.parametrize("case", S4D_CASES)
def test_s4d_leads_back(case: str, dtype: torch.dtype) -> None:
    given = cast(official_s4d(case), dtype)
    assert_equal(s4d_state_dict(load_s4d(given), form="full" if case.startswith("full") else "minimal"), given)


def test_the_minimal_s4d_of_any_layer() -> None:
    """It has no B and no copies: C is multiplied by B, modes are repeated."""
    layer = S4D(6, 8, groups=2, init="legs", dtype=torch.float64)
    again = load_s4d(s4d_state_dict(layer, form="minimal"))
    assert again.groups == 6
    assert relative_error(again.kernel(50), layer.kernel(50).detach()) < 1e-14


@types
@pytest.mark.parametrize("case", S5_CASES)
def test_s5_leads_back(case: str, dtype: torch.dtype) -> None:
    parameters, options = official_s5(case)
    given = cast(parameters, dtype)
    found = s5_params(load_s5(given, **options))
    if "C1" in found and "C" in given:  # an official C_init="complex_normal" packs both
        found["C"] = np.concatenate((found.pop("C1"), found.pop("C2")), 1)
    assert_equal(found, given)


def test_layers_that_the_official_code_does_not_have() -> None:
    with pytest.raises(ValueError, match="complex modes, this one has real ones"):
        s4d_state_dict(S4D(4, 6, init="real"))
    with pytest.raises(ValueError, match="bidirectional=True and discretization='zoh': take form='full'"):
        s4d_state_dict(S4D(4, 6, bidirectional=True), form="minimal")
    with pytest.raises(ValueError, match="this has shared_sample=False"):
        s5_params(S5(4, 16, bidirectional=True, shared_sample=False))


def test_arrays_of_other_libraries_are_read_and_copied() -> None:
    """What training writes does not reach the arrays given, be they NumPy's or PyTorch's."""
    parameters, options = official_s5("zoh_conj_uni")
    before = {name: x.copy() for name, x in parameters.items()}
    tensors = official_s4d("random_even")
    kept = {name: x.clone() for name, x in tensors.items()}
    for layer in (load_s5(parameters, **options), load_s4d(tensors)):
        with torch.no_grad():
            for p in layer.parameters():
                p.add_(1)
    assert all(np.array_equal(x, before[name]) for name, x in parameters.items())
    assert all(torch.equal(x, kept[name]) for name, x in tensors.items())


BAD_S4: list[tuple[str, dict[str, Any], str]] = [
    ("missing", {"kernel.P": None}, r"\['kernel.P'\] are missing and none are left over.*below 'layer\.'"),
    ("no length", {"kernel.l_kernel": None}, r"\['kernel.l_kernel'\] are missing"),
    ("left over", {"output_linear.0.weight": torch.ones(1)}, r"\['output_linear.0.weight'\] are left over.*leave out"),
    ("shape", {"kernel.B": torch.ones(1, 3, 7, 2)}, r"'kernel.B' should have shape \(1, S, M, 2\) with S=3, M=8, got"),
    ("axes", {"kernel.A_real": torch.ones(8)}, r"'kernel.A_real' should have shape \(S, M\), got \(8,\)"),
    ("rank", {"kernel.P": torch.ones(3, 3, 8, 2)}, r"rank 1 or 2, 'kernel.P' has one of rank 3"),
    ("dt_tie", {"kernel.inv_dt": torch.ones(3, 8)}, r"should have shape \(H, 1\), got \(3, 8\).*dt_tie=False"),
    ("outputs", {"D": torch.ones(2, 3)}, r"several output channels, here 2 rows of 'D'"),
    ("directions", {"kernel.C": torch.ones(4, 3, 8, 2)}, r"two if the layer is bidirectional, got 4"),
    ("length", {"kernel.l_kernel": torch.tensor(0.5)}, r"'kernel.l_kernel' should be one whole number of samples, got"),
    ("not run", {"kernel.l_kernel": torch.tensor(0)}, r"'kernel.l_kernel' is 0: .* Pass horizon="),
]


@pytest.mark.parametrize(("change", "message"), [x[1:] for x in BAD_S4], ids=[x[0] for x in BAD_S4])
def test_what_is_wrong_with_s4_is_named(change: dict[str, Any], message: str) -> None:
    given = {name: x for name, x in (official_s4("legs_even") | change).items() if x is not None}
    with pytest.raises(ValueError, match=message):
        load_s4(given)


def test_copies_must_divide_the_channels() -> None:
    parameters = official_s4d("full_zoh")
    copies = {name: parameters[name] for name in ("kernel.A_real", "kernel.A_imag")}
    more = {name: torch.cat((x, x[:1])) for name, x in copies.items()}
    B = parameters["kernel.B"]
    with pytest.raises(ValueError, match=r"rows of 'kernel.A_real' must divide the \d channels of 'D'"):
        load_s4d(parameters | more | {"kernel.B": torch.cat((B, B[:, :1]), 1)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernel.C": None}, r"\['kernel.C'\] are missing.*official S4D \(models/s4/s4d.py\)"),
        (
            {"kernel.A_imag": torch.ones(4, 7)},
            r"'kernel.A_imag' should have shape \(H, M\) with H=4, M=8, got \(4, 7\)",
        ),
    ],
)
def test_what_is_wrong_with_the_minimal_s4d_is_named(change: dict[str, Any], message: str) -> None:
    given = {name: x for name, x in (official_s4d("lin_init_even") | change).items() if x is not None}
    with pytest.raises(ValueError, match=message):
        load_s4d(given)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"C": None}, r"\['C'\] are missing.*'C1' and 'C2' in place of 'C'"),
        ({"C": None, "C1": np.ones((4, 8, 2))}, r"\['C2'\] are missing"),
        ({"C": np.ones((4, 12, 2))}, r"\(H, 2 P, 2\) for both directions, with H=4, P=8, got \(4, 12, 2\)"),
        ({"log_step": np.ones(8)}, r"'log_step' should have shape \(P, 1\) with P=8, got \(8,\)"),
        ({"D": np.ones(5)}, r"'B' should have shape \(P, H, 2\) with P=8, H=5, got \(8, 4, 2\)"),
    ],
    ids=["missing", "one of two", "C", "axes", "channels"],
)
def test_what_is_wrong_with_s5_is_named(change: dict[str, Any], message: str) -> None:
    given = {name: x for name, x in (official_s5("zoh_conj_uni")[0] | change).items() if x is not None}
    with pytest.raises(ValueError, match=message):
        load_s5(given)


@untyped
@pytest.mark.parametrize("value", [torch.ones(4, dtype=torch.complex128), np.ones(4, dtype=int), [1.0], "D", None])
def test_parameters_are_real_numbers(value: Any) -> None:
    with pytest.raises(TypeError, match=r"'D' should be an array of real floating-point numbers, got"):
        load_s5(official_s5("zoh_conj_uni")[0] | {"D": value})
