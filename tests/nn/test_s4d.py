"""The options of S4D, its start and the official numbers. The laws hold the rest."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from core.states import loop
from laws.runs import signal
from laws.tolerance import relative_error, tolerance
from nn.golden import TOLERANCES, cases, pairs
from nn.layers import untyped
from transferfn.core import hippo, modal
from transferfn.models import Backbone
from transferfn.nn import RTF, S4D, NotCausalError, Stream

D, N, F64 = 4, 6, torch.float64
CASES = cases("s4d")
types = pytest.mark.parametrize("dtype", TOLERANCES, ids=["f64", "f32"])


def make(**options: Any) -> S4D:
    torch.manual_seed(0)
    return S4D(**({"channels": D, "state_size": N, "dtype": F64} | options))


# ------------------------------------------------------------------------------------------------ official numbers


def official(case: str, dtype: torch.dtype) -> tuple[S4D, dict[str, Tensor]]:
    """A layer with the parameters of a case."""
    f = CASES[case]
    is_full = case.startswith("full")
    groups, modes = f["A_real_param" if is_full else "log_A_real"].shape
    layer = S4D(
        len(f["D"]),
        2 * modes,
        groups=groups,
        discretization="bilinear" if is_full and f["bilinear"] else "zoh",
        dtype=dtype,
    )
    values = {
        "log_dt": f["log_dt"],
        "log_A_real": f["A_real_param"] if is_full else f["log_A_real"],
        "A_imag": -f["A_imag_param"] if is_full else f["A_imag"],  # the two official codes use opposite signs
        "B": pairs(f["B"]) if is_full else pairs(torch.ones(groups, modes, dtype=torch.complex128)),
        "C": pairs(f["C"]),
        "D": f["D"],
    }
    layer.load_state_dict(values)
    return layer, f


@types
@pytest.mark.parametrize("case", CASES)
def test_official_numbers(case: str, dtype: torch.dtype) -> None:
    layer, f = official(case, dtype)
    allowed, u = TOLERANCES[dtype], f["u"].mT.to(dtype)
    k = layer.kernel(int(f["L"])).detach()
    k[:, 0] -= layer.D.detach()
    assert relative_error(k, f["K"]) <= allowed
    y, _ = layer.extend(u)
    assert relative_error(y.mT, f["y"]) <= allowed
    assert relative_error(layer(u).mT, f["y"]) <= allowed
    if "y_step" not in f:
        return
    system = layer.state_space()
    assert relative_error(pairs(system.A), pairs(f["A_bar"])) <= allowed
    assert relative_error(pairs(system.B), pairs(f["B_bar"])) <= allowed
    prefilled, state = layer.extend(u[:, :32])
    assert relative_error(prefilled.mT, f["y_step"]) <= allowed
    assert relative_error(state, pairs(f["state_step"])) <= allowed
    for steps in (layer, layer.realize()):
        state, ys = steps.init_state(len(u)), []
        for u_t in u[:, :32].unbind(1):
            y_t, state = steps.step(u_t, state)
            ys.append(y_t)
        assert relative_error(torch.stack(ys, -1), f["y_step"]) <= allowed
        assert relative_error(state, pairs(f["state_step"])) <= allowed


def test_copies_are_shared_in_turns() -> None:
    """Channel d uses copy d mod groups."""
    layer = make(groups=2)
    with torch.no_grad():
        layer.log_dt.fill_(-3)
        layer.log_A_real[1] += 1
    A = layer.state_space().A
    assert torch.equal(A[0], A[2])
    assert torch.equal(A[1], A[3])
    assert not torch.equal(A[0], A[1])


# -------------------------------------------------------------------------------------------------------- options


@untyped
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 0}, "must be at least 1, got channels=0, state_size=6"),
        ({"state_size": 0}, "must be at least 1, got channels=4, state_size=0"),
        ({"state_size": 5}, "state_size must be even, got 5"),
        ({"groups": 3}, "groups must divide channels=4, got 3"),
        ({"groups": 0}, "groups must divide channels=4, got 0"),
        ({"init": "hippo"}, "init must be one of 'lin', 'inv', 'legs', 'real', got 'hippo'"),
        ({"discretization": "dirac"}, "discretization must be one of 'zoh', 'bilinear', got 'dirac'"),
        ({"dt_min": 0.0}, "need 0 < dt_min <= dt_max, got dt_min=0.0, dt_max=0.1"),
        ({"dt_min": 0.2}, "need 0 < dt_min <= dt_max, got dt_min=0.2, dt_max=0.1"),
        ({"dt_max": math.inf}, "dt_max=inf"),
        ({"b_clip": 0.0, "init": "legs"}, "b_clip is a positive bound, or None for the exact system; got 0.0"),
        ({"dtype": torch.complex64}, "not torch.complex64"),
    ],
    ids=lambda x: str(x) if isinstance(x, dict) else "",
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


@untyped
@pytest.mark.parametrize("name", ["channels", "state_size", "groups"])
def test_sizes_are_whole_numbers(name: str) -> None:
    with pytest.raises(TypeError, match=f"{name} is a whole number, got 2.5"):
        make(**{name: 2.5})
    make(**{name: np.int64(2)})


def test_defaults() -> None:
    layer = S4D(D, N)
    assert {name: tuple(x.shape) for name, x in layer.named_parameters()} == {
        "log_dt": (D,),
        "log_A_real": (D, N // 2),
        "A_imag": (D, N // 2),
        "B": (D, N // 2, 2),
        "C": (D, N // 2, 2),
        "D": (D,),
    }
    assert {x.dtype for x in layer.parameters()} == {torch.float32}
    assert repr(layer) == "S4D(4, 6, init='lin', discretization='zoh', groups=4)"
    both = S4D(D, 3, init="real", groups=2, bidirectional=True, dtype=torch.bfloat16)
    assert {name: tuple(x.shape) for name, x in both.named_parameters()} == {
        "log_dt": (D,),
        "log_A_real": (2, 3),
        "B": (2, 3),
        "C": (2, D, 3),
        "D": (D,),
    }
    assert {x.dtype for x in both.parameters()} == {torch.float32}
    assert repr(both) == "S4D(4, 3, init='real', discretization='zoh', groups=2, bidirectional=True)"


# ---------------------------------------------------------------------------------------------------------- start


@pytest.mark.parametrize("init", ["lin", "inv", "legs"])
@pytest.mark.parametrize("b_clip", [2.0, None])
def test_complex_starts(init: Any, b_clip: float | None) -> None:
    layer = make(init=init, b_clip=b_clip)
    Lambda, B = hippo.s4d(init, N, b_clip=b_clip)
    found = torch.complex(-layer.log_A_real.exp(), layer.A_imag)
    assert torch.allclose(found, Lambda.expand(D, -1), rtol=1e-14)
    assert torch.equal(layer.B, pairs(B).expand(D, -1, -1))


def test_real_start() -> None:
    """N real modes, not N / 2 complex ones."""
    layer = make(init="real", state_size=5)
    system = layer.state_space()
    assert torch.allclose(-layer.log_A_real.exp(), -torch.arange(1.0, 6.0, dtype=F64).expand(D, -1))
    assert not system.A.is_complex()
    assert torch.allclose(system.A, (-layer.log_A_real.exp() * layer.log_dt.exp()[:, None]).exp())
    assert layer.init_state(2).shape == (2, D, 5)


def test_random_starts() -> None:
    layer = S4D(2000, 8, dt_min=0.01, dt_max=0.1).requires_grad_(False)
    assert 0.01 <= layer.log_dt.exp().min() < 0.011
    assert 0.09 < layer.log_dt.exp().max() <= 0.1001
    assert layer.log_dt.exp().log().mean() == pytest.approx(math.log(0.01 * 0.1) / 2, abs=0.1)
    assert layer.C.square().sum(-1).mean() == pytest.approx(1, abs=0.1)
    assert layer.D.std() == pytest.approx(1, abs=0.1)
    generators = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    first, second = make(), make()
    for one, generator in zip((first, second), generators, strict=True):
        torch.rand(1)
        one.reset_parameters(generator)
    assert all(torch.equal(x, y) for x, y in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.C, make().C)


# ------------------------------------------------------------------------------------------------------- the value


@pytest.mark.parametrize("options", [{}, {"init": "real", "state_size": 3}, {"discretization": "bilinear"}], ids=str)
def test_the_state_space_is_the_layer(options: dict[str, Any]) -> None:
    """A loop over time with what it returns gives outputs and states, and gradients reach every parameter."""
    layer, u = make(**options), signal(2, 23, D)
    expected, there = loop(layer.state_space(), u)
    y, state = layer.extend(u)
    assert relative_error(y, expected) <= tolerance(layer, F64)
    assert relative_error(state, there) <= tolerance(layer, F64)
    (y.square().sum() + state.square().sum()).backward()
    assert all(x.grad is not None and x.grad.abs().sum() > 0 for x in layer.parameters())


def test_the_system_is_wide() -> None:
    system = make(dtype=torch.float32).state_space()
    assert (system.A.dtype, system.D.dtype) == (torch.complex128, F64)
    kernel = make(dtype=torch.float32).kernel(5)
    assert kernel.dtype == F64
    assert make(bidirectional=True).kernel(5, torch.float32).shape == (2, D, 5)


def test_both_ways_shares_all_but_the_output() -> None:
    layer = make(bidirectional=True)
    system = layer.state_space()
    assert (system.A.shape, system.C.shape, system.D.shape) == ((D, N // 2), (2, D, N // 2), (2, D))
    pulse = torch.zeros(1, 9, D, dtype=F64)
    pulse[0, 4] = 1
    k = layer.kernel(5)
    response = layer(pulse)[0].mT
    assert torch.allclose(response[:, 4:], k[0], rtol=1e-12, atol=1e-12)
    assert torch.allclose(response[:, :4].flip(-1), k[1, :, :4], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"init": "real"}, {"bidirectional": True}], ids=str)
def test_kernels_come_in_pieces(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Some channels at a time give what all give together, with first and second derivatives."""
    layer = make(**options)
    parameters = list(layer.parameters())

    def found() -> list[Tensor]:
        kernel = layer.kernel(23)
        first = torch.autograd.grad(kernel.square().sum(), parameters, create_graph=True)
        return [
            kernel,
            *first,
            *torch.autograd.grad(torch.cat([x.flatten() for x in first]).square().sum(), parameters),
        ]

    together = found()
    sizes, sums = [], modal._sums
    monkeypatch.setattr(modal, "ROOM", 1)
    monkeypatch.setattr(modal, "_sums", lambda w, *rest: sizes.append(w.shape[-2]) or sums(w, *rest))
    for expected, one in zip(together, found(), strict=True):
        torch.testing.assert_close(one, expected, rtol=1e-12, atol=1e-12)
    assert set(sizes) == {1}
    assert len(sizes) > D  # computed again for derivatives


def test_realize() -> None:
    layer = make(dtype=torch.float32)
    fixed = layer.realize()
    assert not list(fixed.parameters())
    assert {x.dtype for x in fixed.buffers()} == {torch.float32}
    assert {x.dtype for x in layer.realize(F64).buffers()} == {F64}
    assert {x.dtype for x in layer.realize(torch.bfloat16).buffers()} == {torch.float32}
    assert repr(fixed) == "ModalRealization(channels=4, state=(4, 3, 2), dtype=torch.float32)"
    u = signal(2, 9, D, torch.float32)
    before = fixed(u)
    with torch.no_grad():
        layer.C.zero_()
    assert torch.equal(fixed(u), before)
    stream = Stream(fixed, 2)
    ys = [stream(u_t) for u_t in u.unbind(1)]
    assert relative_error(torch.stack(ys, 1), before) <= tolerance(make(), torch.float32)
    with pytest.raises(NotCausalError, match=r"S4D\.realize\(\)"):
        make(bidirectional=True).realize()


@untyped
def test_states_are_checked() -> None:
    layer = make()
    u = signal(2, 5, D)
    with pytest.raises(ValueError, match=r"expected a state of shape .* = \(2, 4, 3, 2\).*got \(3, 4, 3, 2\)"):
        layer.extend(u, layer.init_state(3))
    with pytest.raises(ValueError, match=r"got NoneType. Begin with init_state\(2\)"):
        layer.step(u[:, 0], None)  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match=r"real floating-point state, got torch\.int64"):
        layer.step(u[:, 0], layer.init_state(2).long())


# --------------------------------------------------------------------------------------------------------- training


def test_param_groups() -> None:
    layer = make()
    slow, rest = layer.param_groups(lr=1e-3, weight_decay=0.0)
    assert [id(x) for x in slow["params"]] == [id(x) for x in (layer.log_dt, layer.log_A_real, layer.A_imag, layer.B)]
    assert (slow["lr"], slow["weight_decay"]) == (1e-3, 0.0)
    assert [id(x) for x in rest["params"]] == [id(x) for x in (layer.C, layer.D)]
    assert rest.keys() == {"params"}
    assert sum(len(group["params"]) for group in make(init="real").param_groups()) == 5


def test_a_model_trains_outputs_like_any_other_weight() -> None:
    model = Backbone(4, 1, lambda: S4D(4, 2), inputs=1)
    groups = model.param_groups(lr=1e-2, weight_decay=0.1, filter_lr=1e-3, filter_weight_decay=0.0)
    mixer: Any = model.blocks[0].mixer
    rates = {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    assert len(rates) == len(list(model.parameters()))
    assert rates[id(mixer.A_imag)] == (1e-3, 0.0)
    assert rates[id(mixer.C)] == (1e-2, 0.1)
    assert rates[id(mixer.D)] == (1e-2, 0.0)


def test_it_learns_another_filter() -> None:
    """From its output: the error falls to a tenth."""
    torch.manual_seed(0)
    target, layer = RTF(1, 2, horizon=64, dtype=F64), make(channels=1, state_size=8, dt_min=0.05, dt_max=0.05)
    u = signal(4, 64, 1)
    y = target(u).detach()
    optimizer = torch.optim.Adam(layer.param_groups(lr=1e-2), lr=5e-2)
    losses = []
    for _ in range(200):
        loss = nn.functional.mse_loss(layer(u), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0] / 10
