"""S5: the numbers of the official code, a loop over time, irregular sampling, the start. The laws hold the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from laws.filters import F32, F64
from laws.runs import reset_mask, signal
from laws.tolerance import assert_same, relative_error, tolerance
from nn.layers import untyped
from nn.loops import by_loop, gradients
from transferfn.core.hippo import hippo_n_blocks
from transferfn.core.stability import UnstableFilterWarning
from transferfn.nn import S5, StateOverflowError

H, N = 3, 8
GOLDEN = Path(__file__).parent.parent / "golden" / "s5.npz"
with np.load(GOLDEN) as golden:
    CASES = {
        str(case): {k.split("/")[1]: golden[k] for k in golden.files if k.startswith(f"{case}/")}
        for case in golden["cases"]
    }
TOLERANCES = {F64: 1e-12, F32: 1e-4}  # of tests/golden/README.md
every_type = pytest.mark.parametrize("dtype", TOLERANCES, ids=["f64", "f32"])


def make(dtype: torch.dtype = F64, **options: Any) -> S5:
    torch.manual_seed(0)
    layer = S5(**({"channels": H, "state_size": N, "dt_min": 0.02, "dt_max": 0.5, "dtype": dtype} | options))
    return layer.eval()


def official(case: str, dtype: torch.dtype) -> tuple[S5, dict[str, Any], Tensor]:
    """The layer of a case, its arrays, and its input as a batch of one row."""
    f = CASES[case]
    conj, both = bool(f["conj_sym"]), bool(f["bidirectional"])
    layer = S5(
        int(f["H"]),
        int(f["P"]) * (2 if conj else 1),
        discretization="bilinear" if f["bilinear"] else "zoh",
        conj_sym=conj,
        clip_eigenvalues=bool(f["clip_eigs"]),
        bidirectional=both,
        step_scale=float(f["step_rescale"]),
        dtype=dtype,
    )
    C = torch.from_numpy(f["C"])
    C = torch.stack(C.chunk(2, 1)) if both else C
    values = {
        "eigenvalue_real": torch.from_numpy(f["Lambda"]).real,
        "eigenvalue_imag": torch.from_numpy(f["Lambda"]).imag,
        "log_step": torch.from_numpy(f["log_step"]),
        "input_matrix": torch.view_as_real(torch.from_numpy(f["B"])),
        "output_matrix": torch.view_as_real(C.contiguous()),
        "feedthrough": torch.from_numpy(f["D"]),
    }
    layer.load_state_dict(values)
    return layer.eval(), f, torch.from_numpy(f["u"])[None].to(dtype)


# ---------------------------------------------------------------------------------------------------- official


@every_type
@pytest.mark.parametrize("case", CASES)
def test_official_numbers(case: str, dtype: torch.dtype) -> None:
    """Every verb."""
    layer, f, u = official(case, dtype)
    expected, allowed = torch.from_numpy(f["y"]), TOLERANCES[dtype]
    assert expected.shape == (int(f["L"]), int(f["H"]))
    assert relative_error(layer(u)[0], expected) <= allowed
    system = layer.state_space()
    for found, name in ((system.a, "Lambda_bar"), (system.B, "B_bar")):
        assert relative_error(torch.view_as_real(found), torch.view_as_real(torch.from_numpy(f[name]))) <= allowed
    if layer.is_causal:
        first, state = layer.extend(u[:, :17])
        ys = [first]
        for t in range(17, 20):
            y_t, state = layer.step(u[:, t], state)
            ys.append(y_t[:, None])
        ys.append(layer.extend(u[:, 20:], state)[0])
        assert relative_error(torch.cat(ys, 1)[0], expected) <= allowed


def test_official_cases_are_all_there() -> None:
    assert len(CASES) == 12


# ------------------------------------------------------------------------------------------------------- loop

OPTIONS = {
    "zoh": {},
    "bilinear-full": {"discretization": "bilinear", "conj_sym": False, "state_size": 6, "blocks": 2},
    "both": {"bidirectional": True, "clip_eigenvalues": True},
}


def system_by_hand(layer: S5, dt: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """a_t (B, L, P), the factors of B at each time, and C, as the formulas say."""
    real = layer.eigenvalue_real.clamp_max(-1e-4) if layer.clip_eigenvalues else layer.eigenvalue_real
    Lambda = torch.complex(real, layer.eigenvalue_imag)
    step = layer.step_scale * layer.log_step.exp() * dt[..., None]
    if layer.discretization == "zoh":
        a = (Lambda * step).exp()
        gain = (a - 1) / Lambda
    else:
        a = (1 + step / 2 * Lambda) / (1 - step / 2 * Lambda)
        gain = step / (1 - step / 2 * Lambda)
    return a, gain, torch.view_as_complex(layer.output_matrix) * (2 if layer.conj_sym else 1)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("irregular", [False, True], ids=["regular", "irregular"])
@pytest.mark.parametrize("bounds", [(None, None), ([41, 17, 0], [[5, 32], [0, 16, 20], [3]])], ids=["whole", "bounded"])
@pytest.mark.parametrize("length", [1, 41])
def test_a_loop_over_time(options: Any, irregular: bool, bounds: Any, length: int) -> None:
    """Values, the final state and every gradient, from a state and with steps that vary."""
    layer = make(step_scale=1.5, **options)
    u = signal(3, length, H).requires_grad_()
    generator = torch.Generator().manual_seed(3)
    dt = 3 * torch.rand(3, length, dtype=F64, generator=generator)
    dt[0, 0] = 0
    given: dict[str, Any] = {}
    if bounds[0] is not None:
        given["lengths"] = torch.tensor(bounds[0]).clamp_max(length)
        given["resets"] = reset_mask([[t for t in row if t < length] for row in bounds[1]], length)
    inputs = {"input": u} | dict(layer.named_parameters())
    if irregular:
        inputs["dt"] = dt.requires_grad_()
    state = None
    if layer.is_causal:
        state = torch.randn(3, layer.states, 2, dtype=F64, generator=generator).requires_grad_()
        inputs["initial state"] = state

    steps = {"dt": dt} if irregular else {}
    found = layer.extend(u, state, **given, **steps) if layer.is_causal else (layer(u, **given, **steps), None)
    a, gain, C = system_by_hand(layer, dt if irregular else torch.ones_like(dt))
    v = gain * (u.to(C.dtype) @ torch.view_as_complex(layer.input_matrix).mT)
    expected = by_loop(u, a, v, C, layer.feedthrough, state, **given)
    assert_same(gradients(found, inputs), gradients(expected, inputs), tolerance(layer, F64))


# --------------------------------------------------------------------------------------------------------- options


@untyped
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 0}, "channels must be at least 1, got 0"),
        ({"state_size": 0}, "state_size must be at least 1, got 0"),
        ({"blocks": 3}, "got 3 blocks for a size of 8"),
        ({"blocks": 8}, "blocks of 1.*conj_sym=False"),
        ({"discretization": "euler"}, "discretization must be one of 'zoh', 'bilinear', got 'euler'"),
        ({"output_init": "zeros"}, "output_init must be one of 'truncated_normal'.*got 'zeros'"),
        ({"dt_min": 0.0}, "0 < dt_min <= dt_max, got dt_min=0.0, dt_max=0.5"),
        ({"dt_min": 1.0}, "got dt_min=1.0, dt_max=0.5"),
        ({"step_scale": 0.0}, "positive factor, got 0.0"),
        ({"dtype": torch.int64}, "real floating-point type.*not torch.int64"),
    ],
    ids=str,
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


@untyped
@pytest.mark.parametrize("name", ["channels", "state_size", "blocks"])
def test_sizes_are_whole_numbers(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} is a whole number, got 2.5"):
        make(**{name: 2.5})


def test_print_and_parameters() -> None:
    assert repr(make()) == "S5(3, 8, blocks=1, discretization='zoh')"
    layer = make(conj_sym=False, blocks=2, bidirectional=True, step_scale=2.0)
    assert repr(layer) == "S5(3, 8, blocks=2, discretization='zoh', conj_sym=False, bidirectional=True, step_scale=2.0)"
    assert {name: tuple(x.shape) for name, x in layer.state_dict().items()} == {
        "eigenvalue_real": (8,),
        "eigenvalue_imag": (8,),
        "log_step": (8,),
        "input_matrix": (8, 3, 2),
        "output_matrix": (2, 3, 8, 2),
        "feedthrough": (3,),
    }
    assert S5(2, 4).log_step.dtype == torch.get_default_dtype()
    assert S5(2, 4, dtype=torch.bfloat16).log_step.dtype == F32


def test_step_scale_is_a_factor_on_every_step() -> None:
    layer, other, u = make(), make(step_scale=2.0), signal(2, 9, H)
    with torch.no_grad():
        layer.log_step += np.log(2)
    assert relative_error(layer(u), other(u)) <= tolerance(layer, F64)


# ---------------------------------------------------------------------------------------------------------- start


@pytest.mark.parametrize(("conj_sym", "blocks"), [(True, 1), (True, 4), (False, 4)])
def test_it_starts_from_hippo_n(conj_sym: bool, blocks: int) -> None:
    layer = make(channels=64, state_size=64, conj_sym=conj_sym, blocks=blocks, dt_min=0.01, dt_max=0.1)
    Lambda, V = hippo_n_blocks(64, blocks, conj_sym=conj_sym)
    assert relative_error(torch.view_as_real(layer.eigenvalues()), torch.view_as_real(Lambda)) <= 1e-15
    assert ((layer.log_step >= np.log(0.01)) & (layer.log_step <= np.log(0.1))).all()
    assert layer.log_step.std() > 0.2  # of uniform ones 0.66
    # B is V^* times a real matrix of variance 1/64, cut at two deviations; [V, conj V] is unitary.
    B = V @ torch.view_as_complex(layer.input_matrix.detach())
    B = 2 * B.real if conj_sym else B
    if not conj_sym:
        assert B.imag.abs().max() <= 1e-13
    assert float(64 * B.real.square().mean()) == pytest.approx(1, abs=0.07)  # 4096 draws: five standard deviations
    assert 8 * B.real.abs().max() <= 2 / 0.8796
    assert float(layer.feedthrough.detach().square().mean()) == pytest.approx(1, abs=0.9)


@pytest.mark.parametrize(
    ("output_init", "power"),
    [("truncated_normal", 2 / 64), ("lecun_normal", 2 / (64 * 32)), ("complex_normal", 1.0)],
)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_how_the_output_matrix_is_drawn(output_init: Any, power: float, bidirectional: bool) -> None:
    layer = make(channels=32, state_size=64, output_init=output_init, bidirectional=bidirectional)
    C = torch.view_as_complex(layer.output_matrix.detach())
    for one in C.unbind() if bidirectional else (C,):
        assert float(one.abs().square().mean()) == pytest.approx(power, rel=0.16)  # 1024 draws: five deviations
    assert not bidirectional or not torch.equal(C[0], C[1])


def test_reset_parameters_takes_its_randomness_from_the_generator() -> None:
    layer = make(bidirectional=True)
    before = [x.clone() for x in layer.parameters()]
    torch.manual_seed(1)
    layer.reset_parameters(torch.Generator().manual_seed(5))
    once = [x.clone() for x in layer.parameters()]
    layer.reset_parameters(torch.Generator().manual_seed(5))
    assert all(torch.equal(x, y) for x, y in zip(layer.parameters(), once, strict=True))
    assert not torch.equal(layer.output_matrix, before[4])
    torch.manual_seed(0)
    layer.reset_parameters()
    assert all(torch.equal(x, y) for x, y in zip(layer.parameters(), before, strict=True))


def test_realize() -> None:
    """Coefficients rounded to a type, computed once: what becomes of the layer later does not reach it."""
    layer, u = make(F32, step_scale=2.0), signal(2, 33, H)
    fixed = layer.realize(F64)
    expected = make(F64, step_scale=2.0)
    expected.load_state_dict(layer.state_dict())
    before = expected(u)
    assert relative_error(fixed(u), before) <= tolerance(expected, F64)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    assert relative_error(fixed(u), before) <= tolerance(expected, F64)
    assert not list(fixed.parameters())
    assert repr(fixed) == "DiagonalRealization(channels=3, states=4, dtype=torch.float64)"
    assert {x.dtype for x in layer.realize(torch.bfloat16).buffers()} == {F32}
    with pytest.raises(ValueError, match=r"not torch\.int64"):
        layer.realize(torch.int64)


# -------------------------------------------------------------------------------------------------------- training


def test_param_groups() -> None:
    layer = make()
    slow, rest = layer.param_groups(lr=1e-3, weight_decay=0.0)
    names = {id(x): name for name, x in layer.named_parameters()}
    assert [names[id(x)] for x in slow["params"]] == ["eigenvalue_real", "eigenvalue_imag", "log_step", "input_matrix"]
    assert [names[id(x)] for x in rest["params"]] == ["output_matrix", "feedthrough"]
    assert (slow["lr"], slow["weight_decay"], set(rest)) == (1e-3, 0.0, {"params"})
    assert all(set(group) == {"params"} for group in layer.param_groups())
    optimizer = torch.optim.AdamW(layer.param_groups(lr=1e-3), lr=1e-2)
    assert [group["lr"] for group in optimizer.param_groups] == [1e-3, 1e-2]


def unstable(**options: Any) -> S5:
    layer = make(**options)
    with torch.no_grad():
        layer.eigenvalue_real.fill_(2.0)
    return layer


def test_clipping_keeps_a_layer_stable() -> None:
    layer = unstable(clip_eigenvalues=True)
    assert (layer.poles().abs() < 1).all()
    assert (layer.eigenvalues().real == -1e-4).all()
    assert layer(signal(1, 4000, H)).isfinite().all()
    assert (unstable().poles().abs() > 1).all()


@untyped  # the hook's frames would count
def test_an_unstable_layer_says_so() -> None:
    layer = unstable()
    with pytest.warns(UnstableFilterWarning, match=r"grows by a factor of up to .*clip_eigenvalues=True"):
        state = layer.init_state(1)
    with pytest.warns(UnstableFilterWarning) as caught:
        layer.extend(signal(1, 3, H))
    assert [one.filename for one in caught] == [__file__]
    with pytest.raises(StateOverflowError, match=r"after 10000 more samples: the largest pole radius is .*clip_eigen"):
        layer.extend(signal(1, 10_000, H), state)
    with pytest.raises(StateOverflowError, match="the input holds values that are not finite"):
        make().step(torch.full((1, H), torch.nan, dtype=F64), make().init_state(1))


def test_wrong_states_are_named() -> None:
    layer, u = make(), signal(2, 5, H)
    for state in (torch.zeros(2, 4, dtype=F64), torch.zeros(1, 4, 2, dtype=F64), "rest"):
        with pytest.raises(
            ValueError, match=r"\(batch, states, real and imaginary part\) = \(2, 4, 2\).*init_state\(2\)"
        ):
            layer.step(u[:, 0], state)
    with pytest.raises(TypeError, match=r"floating-point state, got torch\.int64"):
        layer.step(u[:, 0], torch.zeros(2, 4, 2, dtype=torch.int64))


def test_a_second_direction_may_begin_with_the_next_sample() -> None:
    """Its response to the next sample is the first one, as in RTF; nothing comes in from another sequence."""
    both, apart = make(bidirectional=True), make(bidirectional=True, shared_sample=False)
    u = signal(3, 21, H)
    with torch.no_grad():
        both.feedthrough.zero_()
        both.output_matrix[0].zero_()
    apart.load_state_dict(both.state_dict())
    resets = torch.zeros(3, 21, dtype=torch.bool)
    resets[0, 5] = resets[1, 0] = resets[2, 20] = True
    lengths = torch.tensor([21, 13, 21])
    for options in ({}, {"resets": resets}, {"lengths": lengths}, {"resets": resets, "lengths": lengths}):
        expected = torch.nn.functional.pad(both(u, **options)[:, 1:], (0, 0, 0, 1))
        if "resets" in options:
            expected = torch.where(torch.nn.functional.pad(resets[:, 1:], (0, 1))[..., None], 0, expected)
        assert relative_error(apart(u, **options), expected) <= tolerance(both, F64)
    with pytest.raises(ValueError, match="shared_sample=False is about the second direction"):
        make(shared_sample=False)
