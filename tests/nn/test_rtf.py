"""The options of RTF, the coefficients they lead to, and what training does with them. The laws hold the rest."""

from __future__ import annotations

import copy
import warnings
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from laws.runs import signal
from laws.tolerance import relative_error, tolerance
from nn.layers import F64, D, N, P, by_scipy, causal_options, make, unstable, untyped
from transferfn.core import TransferFunction, TruncatedTransferFunction
from transferfn.core import init as inits
from transferfn.core.doubt import IllConditionedWarning
from transferfn.core.lattice_system import rotate
from transferfn.core.polynomial import roots
from transferfn.core.stability import UnstableFilterWarning
from transferfn.nn import RTF, LatticeRealization
from transferfn.nn.guard import StateOverflowError
from transferfn.ops.choice import Method

# -------------------------------------------------------------------------------------------------------- options


@untyped
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": 0}, "must be at least 1, got channels=0, order=3"),
        ({"order": 0}, "must be at least 1, got channels=4, order=0"),
        ({"denominator_groups": 3}, "must divide channels=4, got 3"),
        ({"denominator_groups": 0}, "must divide channels=4, got 0"),
        ({"horizon": 3}, r"must exceed the order, got horizon=3 for order=3.*numerator='exact' has no such limit"),
        ({"horizon": 0, "numerator": "exact"}, "got horizon=0"),
        ({"numerator": "true"}, "numerator must be one of 'truncated', 'exact', 'lattice', got 'true'"),
        ({"numerator": "lattice"}, "take constraint='reflection' with it, got None, or numerator='exact'"),
        ({"numerator": "lattice", "constraint": "l1"}, "take constraint='reflection' with it, got 'l1'"),
        ({"constraint": "L1"}, "constraint must be one of None, 'l1', 'reflection', got 'L1'"),
        ({"method": "direct"}, "method must be one of 'auto', 'fft', 'scan', 'blocks', got 'direct'"),
        (
            {"init": "hippo"},
            "init must be one of 'resonators', 'comb', 'bands', 'zeros', 'xavier', 'montel' or a function, got 'hippo'",
        ),
        ({"init": None}, "or a function, got None"),
        ({"init": "bands"}, "take numerator='lattice' with constraint='reflection', got numerator='truncated'"),
        ({"kernel_dropout": 1.0}, "a probability below 1, got 1.0"),
        ({"kernel_dropout": -0.1}, "a probability below 1, got -0.1"),
        ({"kernel_dropout": 0.1, "method": "scan"}, "method='scan' never forms"),
        ({"dtype": torch.int64}, "real floating-point type.*not torch.int64"),
        ({"dtype": torch.complex64}, "not torch.complex64"),
    ],
    ids=lambda x: str(x) if isinstance(x, dict) else "",
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RTF(**({"channels": D, "order": N, "horizon": P} | options))


@untyped
@pytest.mark.parametrize("name", ["channels", "order", "horizon", "denominator_groups"])
def test_sizes_are_whole_numbers(name: str) -> None:
    sizes = {"channels": D, "order": N, "horizon": P, "denominator_groups": 2}
    with pytest.raises(TypeError, match=f"{name} is a whole number, got 2.5"):
        RTF(**(sizes | {name: 2.5}))
    RTF(**{key: np.int64(value) for key, value in sizes.items()})


def test_defaults() -> None:
    layer = RTF(D, N, horizon=P)
    assert layer.denominator_groups == D
    assert {name: tuple(x.shape) for name, x in layer.named_parameters()} == {
        "truncated_numerator": (D, N),
        "truncated_feedthrough": (D,),
        "denominator": (D, N),
    }
    assert {x.dtype for x in layer.parameters()} == {torch.get_default_dtype()}
    assert layer.is_causal
    assert layer.training


def test_an_exact_numerator_has_no_shortest_horizon() -> None:
    layer = make(horizon=1, numerator="exact", init="comb")
    assert all(x.isfinite().all() for x in layer.parameters())
    u = signal(2, 9, D)
    assert relative_error(layer(u), by_scipy(layer, u)) <= tolerance(layer, F64)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("groups", [1, 2, D])
def test_taps_are_coordinates_in_orthonormal_responses(groups: int, bidirectional: bool) -> None:
    """The energy of a response is that of its taps, and what a step along them does is independent of the poles."""
    layer = make(
        numerator="lattice",
        constraint="reflection",
        denominator_groups=groups,
        bidirectional=bidirectional,
        init="comb",
    )
    lead = (2,) if bidirectional else ()
    assert layer.taps.shape == (*lead, D, N)
    assert torch.allclose(layer.taps.norm(dim=-1), torch.ones(*lead, D, dtype=F64))  # as it starts
    with torch.no_grad():
        layer.reflection.add_(0.2 * torch.randn(layer.reflection.shape, dtype=F64))
        layer.taps.normal_()
    response = layer.transfer_function().impulse_response(4000)
    assert torch.allclose(response.square().sum(-1), layer.taps.square().sum(-1) + layer.feedthrough.square())


@pytest.mark.parametrize("order", [2, 4, 8])
@pytest.mark.parametrize("groups", [6, 2])
def test_poles_that_crowd_are_decoded_in_float32(order: int, groups: int) -> None:
    """As a lattice, whose rotations amplify no rounding; the companion form in float32 is off by 1e4 and more."""
    layer = RTF(
        6,
        order,
        horizon=600,
        denominator_groups=groups,
        numerator="lattice",
        constraint="reflection",
        init="bands",
    )
    u = signal(2, 600, 6, torch.float32)
    truth = copy.deepcopy(layer).double()(u.double())
    head, state = layer.extend(u[:, :200])
    tail = []
    for u_t in u[:, 200:400].unbind(1):
        y_t, state = layer.step(u_t, state)
        tail.append(y_t)
    realized = layer.realize()
    assert isinstance(realized, LatticeRealization)
    rest, after = realized.extend(u[:, 400:], state)
    assert state.dtype == after.dtype == torch.float32
    found = torch.cat((head, torch.stack(tail, 1), rest), 1)
    methods: tuple[Method, ...] = ("auto", "fft", "scan", "blocks")
    for method in methods:
        layer.method = method
        assert relative_error(layer(u).double(), truth) < 2e-6, method
    for y in (found, realized(u)):
        assert relative_error(y.double(), truth) < 2e-5


@pytest.mark.parametrize("order", [1, 3, 8, 16, 20])  # of the last one matrices are taken since coefficients fail
@pytest.mark.parametrize("scale", [1.0, 3.0, 6.0])
def test_taps_are_right_in_every_mode_wherever_training_leads(order: int, scale: float) -> None:
    """Coefficients of float64 are off by any factor at the larger scales; the rotations are the definition."""
    layer = RTF(4, order, horizon=784, numerator="lattice", constraint="reflection", init="bands")
    with torch.no_grad():
        layer.reflection.mul_(scale)
        raw, v, h0 = (x.double() for x in (layer.reflection, layer.taps, layer.feedthrough))
        u, x, expected = signal(2, 300, 4, torch.float32), torch.zeros(2, 4, order, dtype=F64), []
        for u_t in u.double().unbind(1):
            expected.append(h0 * u_t + (v * x).sum(-1))
            x = rotate(u_t, x, raw.tanh(), 1 / raw.cosh())
        truth = torch.stack(expected, 1)
        realized = layer.realize()
        methods: tuple[Method, ...] = ("auto", "fft", "scan", "blocks")
        for method in methods:
            layer.method = method
            head, state = layer.extend(u[:, :101])
            tail, after = layer.extend(u[:, 101:], state)
            for y in (layer(u), torch.cat((head, tail), 1)):
                assert relative_error(y.double(), truth) < 2e-6, method
            assert relative_error(after.double(), x) < 2e-6
        state, steps = layer.init_state(2), []
        for u_t in u[:, :150].unbind(1):
            y_t, state = layer.step(u_t, state)
            steps.append(y_t)
        rest, after = realized.extend(u[:, 150:], state)
    for y in (torch.cat((torch.stack(steps, 1), rest), 1), realized(u)):
        assert relative_error(y.double(), truth) < 2e-5
    assert relative_error(after.double(), x) < 2e-5


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("numerator", ["truncated", "exact", "lattice"])
def test_poles_and_kernels_are_those_of_the_transfer_function(numerator: Any, bidirectional: bool) -> None:
    layer = make(
        numerator=numerator,
        constraint="reflection",
        denominator_groups=2,
        bidirectional=bidirectional,
        init="comb",
    )
    with torch.no_grad():
        layer.reflection.add_(0.2 * torch.randn(layer.reflection.shape, dtype=F64))
    h = layer.transfer_function()
    assert layer.poles().shape == h.a.shape
    by_angle = [x.flatten()[x.flatten().angle().argsort()] for x in (layer.poles(), roots(h.a)[0])]
    assert torch.allclose(*by_angle)
    assert torch.allclose(layer.kernel(50), h.impulse_response(50), atol=1e-12)
    with pytest.raises(ValueError, match="at least 1; got 0"):
        layer.kernel(0)


@untyped  # the hook stands between the warning and its line
def test_what_no_coefficients_hold_is_told() -> None:
    """By a warning with the error that it names; poles and responses are right all the same."""
    layer = RTF(2, 8, horizon=784, numerator="lattice", constraint="reflection", init="bands")
    with warnings.catch_warnings():
        warnings.simplefilter("error", IllConditionedWarning)
        layer.transfer_function()
        layer.stabilize()
    with torch.no_grad():
        layer.reflection.mul_(2)
    with pytest.warns(
        IllConditionedWarning, match=r"rounding their coefficients in float64 changes responses by about"
    ) as caught:
        wrong = layer.transfer_function().impulse_response(300)
    assert caught[0].filename == __file__  # the caller's line is named
    right = layer.kernel(300)
    assert relative_error(wrong, right) > 1e-3
    assert float(layer.poles().detach().abs().max()) < 1
    assert relative_error(layer(torch.eye(300)[None, :, :1].expand(1, 300, 2))[0].mT.double(), right) < 1e-6
    with pytest.raises(ArithmeticError, match="stable as they are, by their reflection coefficients"):
        layer.stabilize()


def test_an_overflow_of_taps_is_told_as_such() -> None:
    layer = RTF(4, 8, horizon=100, numerator="lattice", constraint="reflection", init="bands")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(StateOverflowError, match=r"the largest pole radius is 0\.99"):
            layer.extend(torch.ones(1, 2, 4), torch.full((1, 4, 8), torch.inf))


def test_crowded_poles_of_high_orders_are_right_where_values_are_hidden() -> None:
    layer = RTF(4, 20, horizon=200, numerator="lattice", constraint="reflection", init="bands")
    with torch.no_grad():
        layer.reflection.mul_(1.5)
    u = signal(1, 300, 4, torch.float32)
    loss = lambda raw: torch.func.functional_call(layer, {"reflection": raw}, (u,)).square().sum()  # noqa: E731
    found = torch.func.grad(loss)(layer.reflection.detach())
    (expected,) = torch.autograd.grad(loss(layer.reflection), layer.reflection)
    assert relative_error(found, expected) < 1e-4
    each = torch.vmap(layer)(torch.stack((u, -u)))
    assert relative_error(each[1], -layer(u)) < 1e-5


@pytest.mark.parametrize("name", ["reflection", "taps"])
def test_parameters_that_are_not_finite_are_told_as_such(name: str) -> None:
    layer = make(numerator="lattice", constraint="reflection", init="comb")
    with torch.no_grad():
        getattr(layer, name)[0, 0] = torch.nan
    u = signal(1, 5, D)
    with pytest.warns(UnstableFilterWarning, match="parameters of the filters are not finite"):
        assert layer(u)[..., 1:].isfinite().all()  # those of other channels are
    if name == "reflection":
        with pytest.raises(StateOverflowError, match="parameters of the filters are not finite"):
            layer.extend(u)


@pytest.mark.parametrize("groups", [D, 1])
def test_a_step_of_the_lattice_has_gradients(groups: int) -> None:
    layer = make(numerator="lattice", constraint="reflection", init="bands", denominator_groups=groups)
    u = signal(2, 12, D)
    with torch.no_grad():
        expected = layer(u)
    state, ys = layer.init_state(2), []
    for u_t in u.unbind(1):
        y_t, state = layer.step(u_t, state)
        ys.append(y_t)
    y = torch.stack(ys, 1)
    torch.testing.assert_close(y.detach(), expected)
    gradients = torch.autograd.grad(y.square().sum(), list(layer.parameters()))
    for mine, other in zip(
        gradients, torch.autograd.grad(layer(u).square().sum(), list(layer.parameters())), strict=True
    ):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-9)


def test_taps_learn_at_the_rate_of_all_other_weights() -> None:
    layer = make(numerator="lattice", constraint="reflection")
    assert [id(x) for x in layer.filter_parameters()] == [id(layer.reflection)]
    groups = layer.param_groups(lr=1e-3)
    assert [(len(group["params"]), group.get("lr")) for group in groups] == [(1, 1e-3), (2, None)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "f16"])
def test_coefficients_are_never_narrow(dtype: torch.dtype) -> None:
    assert {x.dtype for x in RTF(D, N, horizon=P, dtype=dtype).parameters()} == {torch.float32}
    for layer in (
        make().to(dtype),
        make().bfloat16(),
        make().half(),
        nn.Sequential(make()).to(torch.device("cpu"), dtype),
    ):
        assert {x.dtype for x in layer.parameters()} == {F64}
    assert {x.dtype for x in make(dtype=torch.float32).to(dtype).double().parameters()} == {F64}
    layer = make(dtype=torch.float32).to(dtype)
    u = signal(2, 9, D, torch.float32).to(dtype)
    y, state = layer.extend(u)
    assert (y.dtype, layer(u).dtype, state.dtype) == (dtype, dtype, torch.float32)
    y_t, state = layer.step(u[:, 0], layer.init_state(2, dtype=dtype))
    assert (y_t.dtype, state.dtype) == (dtype, torch.float32)
    # Nothing but input and output are rounded to the narrow type.
    assert torch.equal(layer(u), layer(u.float()).to(dtype))


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({}, "RTF(4, 3, horizon=20, denominator_groups=4, numerator='truncated', init='resonators')"),
        (
            {"bidirectional": True, "constraint": "l1", "method": "fft", "kernel_dropout": 0.1, "init": inits.montel},
            "RTF(4, 3, horizon=20, denominator_groups=4, numerator='truncated', init='montel', bidirectional=True, "
            "constraint='l1', method='fft', kernel_dropout=0.1)",
        ),
        (
            {"init": partial(inits.comb)},
            "RTF(4, 3, horizon=20, denominator_groups=4, numerator='truncated', init='custom')",
        ),
    ],
    ids=["defaults", "all", "nameless"],
)
def test_print(options: dict[str, Any], shown: str) -> None:
    assert repr(RTF(D, N, horizon=P, **options)) == shown


# --------------------------------------------------------------------------------------------------- coefficients


@pytest.mark.parametrize(
    ("numerator", "constraint"),
    [
        *((numerator, constraint) for numerator in ("truncated", "exact") for constraint in (None, "l1", "reflection")),
        ("lattice", "reflection"),
    ],
)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_coefficients_are_those_drawn(numerator: Any, constraint: Any, bidirectional: bool) -> None:
    calls, draws = [], []

    def draw(*sizes: int, **options: Any) -> tuple[Tensor, Tensor, Tensor]:
        calls.append((sizes, options))
        generator = torch.Generator().manual_seed(len(calls))
        draws.append(inits.montel(*sizes, **(options | {"generator": generator})))
        return draws[-1]

    layer = make(
        numerator=numerator, constraint=constraint, bidirectional=bidirectional, denominator_groups=2, init=draw
    )
    expected = {"horizon": P, "denominator_groups": 2, "numerator": numerator, "generator": None}
    assert calls == [((D, N), expected)] * (2 if bidirectional else 1)
    system = layer.system()
    if numerator == "lattice":
        found = layer.taps, layer.reflection.tanh(), layer.feedthrough
    else:
        is_truncated = numerator == "truncated"
        found = (system.b_tilde, system.a, system.h0_tilde) if is_truncated else (system.b, system.a, system.h0)
    for value, drawn in zip(found, zip(*draws, strict=True), strict=True):
        # Constraints are inverted in float64, where montel's denominators are well conditioned (kappa < 5).
        assert relative_error(value, torch.stack(drawn) if bidirectional else drawn[0]) <= 1e-13


@pytest.mark.parametrize(
    ("draw", "found"),
    [
        (None, "NoneType"),
        ((np.zeros((D, N)), np.zeros((D, N)), np.zeros(D)), "ndarray, ndarray, ndarray"),
        ((torch.zeros(D, N), torch.zeros(D, N, dtype=torch.cfloat), torch.zeros(D)), "complex64"),
        ((torch.zeros(D, N), torch.zeros(D, N)), "float32, torch.float32"),
    ],
)
def test_a_draw_of_something_else_is_refused(draw: Any, found: str) -> None:
    with pytest.raises(TypeError, match=f"three real floating-point tensors, but returned .*{found}"):
        RTF(D, N, horizon=P, init=lambda *_, **__: draw)


def test_an_unstable_draw_has_no_lattice() -> None:
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(ValueError, match=r"reflection coefficients within \+-1 .* of 4 rows are not"):
        RTF(
            D,
            64,
            horizon=P,
            init=lambda *sizes, **options: inits.xavier(*sizes, **(options | {"generator": generator})),
            numerator="lattice",
            constraint="reflection",
        )


@pytest.mark.parametrize(
    ("b", "a", "h0"), [((1, N), (D, N), (D,)), ((D, N), (1, N), (D,)), ((D, N), (D, N), ()), ((D, N + 1), (D, N), (D,))]
)
def test_a_draw_of_another_shape_is_refused(b: Any, a: Any, h0: Any) -> None:
    """Even where it would broadcast."""
    with pytest.raises(
        ValueError, match=r"init must return b \(D, n\), a \(G, n\) and h0 \(D\).*\(\(4, 3\), \(4, 3\), \(4,\)\)"
    ):
        make(init=lambda *_, **__: (torch.zeros(b), torch.zeros(a), torch.zeros(h0)))


def test_zeros_is_the_identity() -> None:
    u = signal(2, 9, D)
    for constraint in (None, "l1", "reflection"):
        assert torch.equal(make(init="zeros", constraint=constraint, method="scan")(u), u)


@pytest.mark.parametrize("constraint", [None, "reflection"])
@pytest.mark.parametrize("numerator", ["truncated", "exact"])
def test_comb_is_stable_and_long(numerator: Any, constraint: Any) -> None:
    layer = make(init="comb", horizon=1000, numerator=numerator, constraint=constraint)
    tf = layer.transfer_function()
    assert tf.stability().verdict == "stable"
    # exp(-1 / tau), tau from the order to twice the horizon; the outermost of D denominators is at 1 - 1 / (2 D).
    tau = -1 / tf.stability().radius.log()
    assert tau.max() == pytest.approx(float(3 * (2000 / 3) ** (1 - 1 / (2 * D))), rel=1e-9)
    # The kernel that training sees has norm 1.
    assert torch.allclose(tf.impulse_response(1000).norm(dim=-1), torch.ones(D, dtype=F64), rtol=1e-9)


def test_reset_parameters_takes_its_randomness_from_the_generator() -> None:
    layer = make(init="xavier")
    before = [x.clone() for x in layer.parameters()]
    torch.manual_seed(1)
    layer.reset_parameters(torch.Generator().manual_seed(5))
    once = [x.clone() for x in layer.parameters()]
    layer.reset_parameters(torch.Generator().manual_seed(5))
    assert all(torch.equal(x, y) for x, y in zip(layer.parameters(), once, strict=True))
    assert not torch.equal(layer.denominator, before[-1])
    torch.manual_seed(0)
    layer.reset_parameters()
    assert all(torch.equal(x, y) for x, y in zip(layer.parameters(), before, strict=True))


@pytest.mark.parametrize("constraint", ["l1", "reflection"])
def test_a_constraint_holds_wherever_training_leads(constraint: Any) -> None:
    layer = make(init="comb", constraint=constraint, denominator_groups=2)
    generator = torch.Generator().manual_seed(0)
    for scale in (0.1, 1.0, 3.0):
        for parameter in layer.parameters():
            with torch.no_grad():
                parameter.add_(scale * torch.randn(parameter.shape, generator=generator, dtype=F64))
        tf = layer.transfer_function()
        assert tf.stability().verdict == "stable"
        assert constraint != "l1" or bool((tf.a.abs().sum(-1) < 1).all())


def test_an_unstable_draw_is_no_reflection() -> None:
    with pytest.raises(ValueError, match=r"pole radius up to 1\.1\b.*'comb'.*constraint=None"):
        make(init=unstable(1.1), constraint="reflection")


def test_resonators_under_l1_are_refused() -> None:
    with pytest.raises(ValueError, match=r"cannot hold resonators, .*constraint='reflection'"):
        make(init="resonators", constraint="l1")
    assert make(init="resonators", constraint="reflection").transfer_function().stability().verdict == "stable"


@causal_options
def test_system_and_transfer_function(options: dict[str, Any]) -> None:
    """The value read off a layer is the filter it runs, in float64, with gradients."""
    layer = make(dtype=torch.float32, **options)
    system, tf = layer.system(), layer.transfer_function()
    if layer.numerator_kind == "truncated":
        assert isinstance(system, TruncatedTransferFunction)
        assert system.horizon == P
    else:
        assert isinstance(system, TransferFunction)
    assert {x.dtype for x in (tf.b, tf.a, tf.h0)} == {F64}
    lead = (2,) if layer.bidirectional else ()
    assert (tf.b.shape, tf.a.shape) == ((*lead, D, N), (*lead, layer.denominator_groups, N))

    pulse = torch.zeros(1, 2 * P + 1, D, dtype=F64)
    pulse[0, P] = 1
    response = layer(pulse)[0].mT
    taps = tf.impulse_response(P + 1)
    expected = torch.cat((taps[1, :, :P].flip(-1), taps[0]), -1) if lead else torch.cat((0 * taps[:, :P], taps), -1)
    if lead:
        expected[:, P] = taps[0, :, 0]
    assert relative_error(response, expected) <= tolerance(layer, F64)

    (tf.b.sum() + tf.a.sum() + tf.h0.sum()).backward()
    assert all(x.grad is not None and x.grad.dtype == torch.float32 for x in layer.parameters())


@pytest.mark.parametrize("method", ["fft", "scan"])
@pytest.mark.parametrize("horizon", [20, 21, 4])
@pytest.mark.parametrize("length", [4, 21, 83])
def test_any_length_against_any_horizon(length: int, horizon: int, method: Any) -> None:
    """Below, at and beyond the horizon the filter is the same, and is that of scipy."""
    layer, u = make(horizon=horizon, method=method), signal(2, length, D)
    assert relative_error(layer(u), by_scipy(layer, u)) <= tolerance(layer, F64)


# --------------------------------------------------------------------------------------------------------- training


def test_param_groups() -> None:
    layer = make(constraint="l1", init="montel")
    (group,) = layer.param_groups()
    assert set(group) == {"params"}
    assert [id(x) for x in group["params"]] == [id(x) for x in layer.parameters()]
    (group,) = layer.param_groups(lr=0.0, weight_decay=0.0)  # zero is a rate, too
    assert (group["lr"], group["weight_decay"]) == (0.0, 0.0)
    head = nn.Linear(D, 1, dtype=F64)
    optimizer = torch.optim.AdamW(
        [*layer.param_groups(lr=1e-3), {"params": head.parameters()}], lr=1e-2, weight_decay=0.5
    )
    assert [(g["lr"], g["weight_decay"]) for g in optimizer.param_groups] == [(1e-3, 0.5), (1e-2, 0.5)]


@pytest.mark.parametrize("bidirectional", [False, True])
def test_kernel_dropout_drops_taps(bidirectional: bool) -> None:
    """In training each tap is zero or 1 / (1 - p) times as large; in eval mode nothing happens."""
    layer, p = make(kernel_dropout=0.25, bidirectional=bidirectional, horizon=2000), 0.25
    pulse = torch.zeros(1, 2000, D, dtype=F64)
    pulse[0, 1000] = 1
    whole = make(bidirectional=bidirectional, horizon=2000)(pulse)
    assert relative_error(layer.eval()(pulse), whole) <= tolerance(layer, F64)
    dropped = layer.train()(pulse)
    noise = tolerance(layer, F64) * whole.abs().max()
    kept = (dropped - whole / (1 - p)).abs() <= noise
    gone = dropped.abs() <= noise
    assert (kept | gone).all()
    large = whole.abs() > 2 * noise
    share = (gone & large).sum() / large.sum()
    assert abs(float(share) - p) < 5 * (p * (1 - p) / float(large.sum())) ** 0.5  # five standard deviations
    torch.manual_seed(3)
    first = layer(pulse)
    assert not torch.equal(layer(pulse), first)
    torch.manual_seed(3)
    assert torch.equal(layer(pulse), first)


def test_kernel_dropout_has_no_recurrence_in_training() -> None:
    layer = make(kernel_dropout=0.5)
    u, state = signal(2, 9, D), torch.zeros(2, D, N, dtype=F64)
    for call in (lambda: layer.extend(u), lambda: layer.step(u[:, 0], state), lambda: layer.init_state(2)):
        with pytest.raises(
            RuntimeError, match=r"in training mode has no recurrence.*kernel_dropout=0\.5.*Call eval\(\)"
        ):
            call()
    layer.eval()
    layer.step(u[:, 0], layer.extend(u, layer.init_state(2))[1])
    assert layer.train().realize()(u).shape == u.shape  # a decoder never drops anything
