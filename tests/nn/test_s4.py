"""The options of S4, its start, its horizon and the official numbers. The laws hold the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from core.states import loop
from laws.runs import signal
from laws.tolerance import relative_error, tolerance
from nn.golden import TOLERANCES, cases, pairs
from nn.layers import untyped
from transferfn.core import hippo
from transferfn.nn import S4, NotCausalError, Stream
from transferfn.nn.s4 import LEAST_DECAY

D, N, P, F64 = 4, 6, 20, torch.float64
CASES = cases("s4")
types = pytest.mark.parametrize("dtype", TOLERANCES, ids=["f64", "f32"])


def make(**options: Any) -> S4:
    torch.manual_seed(0)
    default = {"channels": D, "state_size": N, "horizon": P, "dt_min": 0.02, "dt_max": 0.5, "dtype": F64}
    return S4(**(default | options))


# ------------------------------------------------------------------------------------------------ official numbers


def official(case: str, dtype: torch.dtype) -> tuple[S4, dict[str, Tensor]]:
    """A layer with the parameters of a case, C~ being what the official code holds after its first forward pass."""
    f = CASES[case]
    groups, modes = f["A_real_param"].shape
    layer = S4(
        len(f["D"]),
        2 * modes,
        horizon=int(f["l_kernel"]),
        groups=groups,
        bidirectional=bool(f["bidirectional"]),
        dtype=dtype,
    )
    values = {
        "log_dt": f["log_dt"],
        "log_A_real": f["A_real_param"],
        "A_imag": -f["A_imag_param"],
        "P": pairs(f["P"])[:, None],
        "B": pairs(f["B"]),
        "truncated_C": pairs(f["C_tilde"]),
        "D": f["D"],
    }
    layer.load_state_dict(values, strict=False)
    return layer, f


@types
@pytest.mark.parametrize("case", CASES)
def test_official_numbers(case: str, dtype: torch.dtype) -> None:
    layer, f = official(case, dtype)
    allowed, u = TOLERANCES[dtype], f["u"].mT.to(dtype)
    k = layer.kernel(int(f["L"])).detach()
    k[(0,) * layer.bidirectional + (..., 0)] -= layer.D.detach()
    assert relative_error(k, f["K"]) <= allowed
    assert relative_error(pairs(layer.output_vector()), pairs(f["C"])) <= allowed
    assert relative_error(layer(u).mT, f["y"]) <= allowed
    layer.assign_output_vector(f["C"])
    assert relative_error(layer.truncated_C, pairs(f["C_tilde"])) <= allowed
    if layer.bidirectional:
        return
    y, _ = layer.extend(u)
    assert relative_error(y.mT, f["y"]) <= allowed
    modes = f["state_step"].shape[-1] // 2  # the other half are conjugates
    prefilled, state = layer.extend(u[:, :32])
    assert relative_error(prefilled.mT, f["y_step"]) <= allowed
    assert relative_error(state, pairs(f["state_step"][..., :modes])) <= allowed
    steps = layer.realize()
    state, ys = steps.init_state(len(u)), []
    for u_t in u[:, :32].unbind(1):
        y_t, state = steps.step(u_t, state)
        ys.append(y_t)
    assert relative_error(torch.stack(ys, -1), f["y_step"]) <= allowed
    assert relative_error(state, pairs(f["state_step"][..., :modes])) <= allowed


@pytest.mark.parametrize("case", [case for case in CASES if not CASES[case]["bidirectional"]])
def test_official_matrices(case: str) -> None:
    """A_bar of the official dense mode acts on modes and their conjugates as ours on real and imaginary parts."""
    layer, f = official(case, F64)
    system, generator = layer.state_space(), torch.Generator().manual_seed(0)
    x = torch.randn(*system.state_shape, dtype=F64, generator=generator)
    z = torch.view_as_complex(x)
    expected = (f["A_bar"] @ torch.cat((z, z.conj()), -1)[..., None])[..., 0]
    found = (system.A @ x.flatten(1)[..., None])[..., 0].detach()
    assert relative_error(found, pairs(expected[:, : z.shape[-1]]).flatten(1)) <= 1e-12
    assert relative_error(system.B, pairs(f["B_bar"][:, : z.shape[-1]]).flatten(1)) <= 1e-12


# -------------------------------------------------------------------------------------------------------- options


@untyped
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 0}, "must be at least 1, got channels=0, state_size=6"),
        ({"state_size": 5}, "state_size must be even, got 5"),
        ({"groups": 3}, "groups must divide channels=4, got 3"),
        ({"horizon": 0}, "horizon is a number of samples, at least 1; got 0"),
        ({"measure": "lin"}, "measure must be one of 'legs', 'legt', 'lagt', 'fourier', or a tuple of them, got 'lin'"),
        ({"dt_min": 1.0}, "need 0 < dt_min <= dt_max, got dt_min=1.0, dt_max=0.5"),
        ({"b_clip": -1.0}, "b_clip is a positive bound, or None for the exact system; got -1.0"),
        ({"dtype": torch.int32}, "not torch.int32"),
    ],
    ids=lambda x: str(x) if isinstance(x, dict) else "",
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


@untyped
@pytest.mark.parametrize("name", ["channels", "state_size", "groups", "horizon"])
def test_sizes_are_whole_numbers(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} is a whole number, got 2.5"):
        make(**{name: 2.5})
    make(**{name: np.int64(2)})


def test_defaults() -> None:
    layer = S4(D, N, horizon=P)
    assert {name: tuple(x.shape) for name, x in layer.named_parameters()} == {
        "log_dt": (D,),
        "log_A_real": (D, 3),
        "A_imag": (D, 3),
        "P": (D, 1, 3, 2),
        "B": (D, 3, 2),
        "truncated_C": (D, 3, 2),
        "D": (D,),
    }
    assert {x.dtype for x in layer.parameters()} == {torch.float32}
    assert repr(layer) == "S4(4, 6, horizon=20, measure='legs', groups=4)"
    both = S4(D, N, horizon=P, measure="legt", groups=1, bidirectional=True, dtype=torch.float16)
    shapes = {name: tuple(x.shape) for name, x in both.named_parameters()}
    assert (shapes["P"], shapes["truncated_C"]) == ((1, 2, 3, 2), (2, D, 3, 2))
    assert {x.dtype for x in both.parameters()} == {torch.float32}
    assert repr(both) == "S4(4, 6, horizon=20, measure='legt', groups=1, bidirectional=True)"


# ---------------------------------------------------------------------------------------------------------- start


@pytest.mark.parametrize("measure", ["legs", "legt", "lagt", "fourier"])
def test_starts_are_hippo(measure: Any) -> None:
    """The responses of the exact HiPPO system, discretized bilinearly in its own real basis."""
    layer = make(measure=measure, b_clip=None)
    A, B = hippo.hippo(measure, N)
    form = hippo.nplr(measure, N, b_clip=None)
    A = A - LEAST_DECAY * torch.eye(N, dtype=F64) * (form.Lambda.real.abs().max() < 1e-9)
    dt, one = layer.log_dt.exp().detach()[:, None, None], torch.eye(N, dtype=F64)
    inverse = torch.linalg.inv(one - dt / 2 * A)
    A_bar, B_bar = inverse @ (one + dt / 2 * A), dt[..., 0] * (inverse @ B)
    C = 2 * torch.einsum("nk,dk->dnk", form.V.conj(), layer.output_vector().detach()).sum(-1).real
    expected, x = [], B_bar
    for _ in range(3 * P):
        expected.append((C * x).sum(-1))
        x = (A_bar @ x[..., None])[..., 0]
    expected = torch.stack(expected, -1)
    for length in (P, 3 * P):
        k = layer.kernel(length).detach()
        k[:, 0] -= layer.D.detach()
        # Poles up to 1e-5 from the unit circle: conversions may lose five digits.
        assert relative_error(k, expected[:, :length]) <= 1e-10


def test_random_starts() -> None:
    layer = S4(500, 8, horizon=16, dt_min=0.01, dt_max=0.1).requires_grad_(False)
    assert 0.0099 <= layer.log_dt.exp().min() < 0.011
    assert 0.09 < layer.log_dt.exp().max() <= 0.1001
    assert layer.output_vector().abs().square().mean() == pytest.approx(1, abs=0.1)
    assert layer.D.std() == pytest.approx(1, abs=0.1)
    first, second = make(), make()
    for one in (first, second):
        torch.rand(1)
        one.reset_parameters(torch.Generator().manual_seed(3))
    assert all(torch.equal(x, y) for x, y in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.truncated_C, make().truncated_C)


def test_clipping_is_the_official_start() -> None:
    clipped, exact = make(state_size=16), make(state_size=16, b_clip=None)
    assert clipped.B[..., 1].abs().max() == 2
    assert exact.B[..., 1].abs().max() > 2
    assert torch.equal(clipped.B[..., 0], exact.B[..., 0])


# -------------------------------------------------------------------------------------------------------- horizon


@pytest.mark.parametrize("measure", ["legs", "legt"])
@pytest.mark.parametrize("length", [1, 19, 20, 21, 40, 83])
def test_any_length_against_any_horizon(length: int, measure: Any) -> None:
    layer, u = make(measure=measure), signal(2, length, D)
    expected, there = loop(layer.state_space(), u)
    assert relative_error(layer(u), expected) <= tolerance(layer, F64)
    assert relative_error(layer.extend(u)[1], there) <= tolerance(layer, F64)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_with_horizon(bidirectional: bool) -> None:
    layer, u = make(bidirectional=bidirectional), signal(2, 50, D)
    other = layer.with_horizon(51)
    assert other.horizon == 51
    assert layer.horizon == P
    assert relative_error(other(u), layer(u)) <= 10 * tolerance(layer, F64)
    assert not torch.allclose(other.truncated_C, layer.truncated_C)
    with pytest.raises(ValueError, match="at least 1; got 0"):
        layer.with_horizon(0)


def test_a_forward_pass_changes_no_parameter() -> None:
    """C keeps its meaning, however long the input."""
    layer = make()
    before = [x.clone() for x in layer.parameters()]
    for length in (5, P, 3 * P):
        layer(signal(1, length, D))
        layer.extend(signal(1, length, D))
    assert all(torch.equal(x, y) for x, y in zip(layer.parameters(), before, strict=True))


def test_output_vectors_of_another_horizon_are_refused() -> None:
    with pytest.raises(RuntimeError, match=r"'truncated_C' is relative to a horizon of 20.*with_horizon\(21\)"):
        make(horizon=21).load_state_dict(make().state_dict())
    make().load_state_dict(make().state_dict())


def test_assigned_output_vectors_are_checked() -> None:
    with pytest.raises(ValueError, match=r"complex output vectors of shape \(4, 3\), got shape \(1, 3\)"):
        make().assign_output_vector(torch.ones(1, 3, dtype=torch.complex128))


# ------------------------------------------------------------------------------------------------------- the value


def test_gradients_reach_every_parameter() -> None:
    for length in (P, P + 1):
        layer = make(measure="legt")
        layer(signal(2, length, D)).square().sum().backward()
        assert all(x.grad is not None and x.grad.abs().sum() > 0 for x in layer.parameters())


def test_realize() -> None:
    layer = make(dtype=torch.float32)
    fixed = layer.realize()
    assert not list(fixed.parameters())
    assert {x.dtype for x in fixed.buffers()} == {torch.float32}
    assert {x.dtype for x in layer.realize(F64).buffers()} == {F64}
    assert repr(fixed) == "DPLRRealization(channels=4, state=(4, 3, 2), dtype=torch.float32)"
    u = signal(2, 9, D, torch.float32)
    before = fixed(u)
    with torch.no_grad():
        layer.truncated_C.zero_()
    assert torch.equal(fixed(u), before)
    stream = Stream(fixed, 2)
    ys = [stream(u_t) for u_t in u.unbind(1)]
    assert relative_error(torch.stack(ys, 1), before) <= tolerance(make(), torch.float32)
    with pytest.raises(NotCausalError, match=r"S4\.realize\(\)"):
        make(bidirectional=True).realize()


@untyped
def test_states_are_checked() -> None:
    layer = make()
    u = signal(2, 5, D)
    with pytest.raises(ValueError, match=r"expected a state of shape .* = \(2, 4, 3, 2\).*got \(2, 4, 6\)"):
        layer.extend(u, torch.zeros(2, 4, 6, dtype=F64))


def test_param_groups() -> None:
    layer = make()
    slow, rest = layer.param_groups(lr=1e-3, weight_decay=0.0)
    filters = (layer.log_dt, layer.log_A_real, layer.A_imag, layer.P, layer.B)
    assert [id(x) for x in slow["params"]] == [id(x) for x in filters]
    assert (slow["lr"], slow["weight_decay"]) == (1e-3, 0.0)
    assert [id(x) for x in rest["params"]] == [id(x) for x in (layer.truncated_C, layer.D)]
    assert rest.keys() == {"params"}


def test_copies_take_several_measures_in_turn() -> None:
    torch.manual_seed(0)
    mixed = S4(8, 6, horizon=32, measure=("legt", "legs"), groups=4).double()
    for turn, measure in enumerate(("legt", "legs")):
        alone = S4(2, 6, horizon=32, measure=measure, groups=2).double()  # pyright: ignore[reportArgumentType]
        for name in ("log_A_real", "A_imag", "B"):
            assert torch.equal(getattr(mixed, name)[turn::2], getattr(alone, name))
        assert torch.equal(mixed.P[turn::2, : alone.rank], alone.P)
        assert not mixed.P[turn::2, alone.rank :].any()
        with torch.no_grad():
            of_turn = mixed.state_space().B[turn::2]
            alone.log_dt.copy_(mixed.log_dt[turn : turn + 3 : 2])
            assert torch.allclose(alone.state_space().B, of_turn[:2], rtol=1e-10)
    with pytest.raises(ValueError, match=r"multiple of the number of measures, got groups=3 for \('legt', 'legs'\)"):
        S4(6, 4, horizon=8, measure=("legt", "legs"), groups=3)
