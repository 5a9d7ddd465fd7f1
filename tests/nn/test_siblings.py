"""What layers have in common beside the laws: types of signals and lengths, and errors that say what to do."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

from laws.tolerance import relative_error
from nn.layers import untyped
from transferfn.nn import LRU, RTF, S4, S4D, S5, Attention, Hyena, ImplicitFilter, ShortConvolution

LAYERS = {
    "rtf": lambda: RTF(4, 2, horizon=64),
    "s4": lambda: S4(4, 6, horizon=64),
    "s4d": lambda: S4D(4, 6),
    "s5": lambda: S5(4, 6),
    "lru": lambda: LRU(4, 3),
    "short": lambda: ShortConvolution(4, 3),
    "implicit": lambda: ImplicitFilter(4, horizon=64),
    "hyena": lambda: Hyena(4, filter=lambda: RTF(4, 2, horizon=64)),
    "attention": lambda: Attention(4, 2),
}
every = pytest.mark.parametrize("name", LAYERS)


@every
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("wide", [False, True], ids=["float32", "float64"])
def test_signals_of_any_real_type(name: str, dtype: torch.dtype, wide: bool) -> None:
    """What comes back has the type of the signal."""
    torch.manual_seed(0)
    layer = LAYERS[name]()
    layer = layer.double() if wide else layer
    u = torch.randn(2, 11, 4).to(dtype)
    y, state = layer.extend(u[:, :8])
    z, _ = layer.step(u[:, 8], state)
    assert y.dtype == z.dtype == layer(u).dtype == dtype
    assert relative_error(torch.cat((y, z[:, None]), 1), layer(u)[:, :9]) < 4 * torch.finfo(dtype).eps + 1e-5


@every
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16])
def test_lengths_are_wide_integers(name: str, dtype: torch.dtype) -> None:
    """Narrow ones wrap around where one is subtracted."""
    with pytest.raises(ValueError, match=r"lengths must hold one integer a row.*int64 or int32.*lengths.long\(\)"):
        LAYERS[name]().extend(torch.randn(1, 5, 4), lengths=torch.tensor([0], dtype=dtype))


@every
def test_gradients_in_batches(name: str) -> None:
    torch.manual_seed(0)
    layer = LAYERS[name]().double()
    y = layer(torch.randn(1, 5, 4, dtype=torch.float64)).sum((0, 2))
    parameters = [p for p in layer.parameters() if p.requires_grad]
    together = torch.autograd.grad(y, parameters, torch.eye(5, dtype=y.dtype), is_grads_batched=True, retain_graph=True)
    for k in range(5):
        alone = torch.autograd.grad(y[k], parameters, retain_graph=True)
        for one, other in zip(together, alone, strict=True):
            assert torch.allclose(one[k], other, rtol=1e-9, atol=1e-11)


def test_a_short_signal_does_not_pay_for_a_long_horizon() -> None:
    """The kernel of S4 is the same from the generating function and from powers."""
    torch.manual_seed(0)
    layer = S4(4, 6, horizon=512).double()
    assert relative_error(layer.kernel(32), layer.kernel(512)[:, :32]) < 1e-12
    assert relative_error(layer.kernel(31), layer.kernel(512)[:, :31]) < 1e-11


def test_short_chunks_of_s4_are_steps() -> None:
    torch.manual_seed(0)
    layer = S4(4, 6, horizon=64).double().realize()
    u = torch.randn(2, 40, 4, dtype=torch.float64)
    expected, after = layer.extend(u)  # by powers
    y, state = layer.extend(u[:, :30])
    z, state = layer.extend(u[:, 30:36], state)
    x, state = layer.extend(u[:, 36:], state, lengths=torch.tensor([4, 4]))
    assert relative_error(torch.cat((y, z, x), 1), expected) < 1e-12
    assert relative_error(state, after) < 1e-12


@untyped
@pytest.mark.parametrize("filter", [3, None, RTF])
def test_hyena_says_how_to_pass_filters(filter: Any) -> None:
    with pytest.raises(
        TypeError, match=r"filter must be a function that returns a new filter.*Pass for example lambda"
    ):
        Hyena(4, filter=filter)


def test_a_share_without_its_owner() -> None:
    with pytest.raises(ValueError, match="not the one that owns its parameters"):
        Hyena(8, filter=[ImplicitFilter(16, horizon=64).split(2)[1]])


@pytest.mark.parametrize(
    "make", [lambda t: ImplicitFilter(4, horizon=8, dtype=t), lambda t: ShortConvolution(4, 3, dtype=t)]
)
def test_types_of_parameters_are_real(make) -> None:
    with pytest.raises(ValueError, match=r"real floating-point type, float32 or float64, not torch.int32"):
        make(torch.int32)


@every
@pytest.mark.parametrize("verb", ["forward", "extend", "step"])
@pytest.mark.parametrize("of", ["input", "parameters"])
def test_forward_mode_is_right_or_refused(name: str, verb: str, of: str) -> None:
    """Never silently zero."""
    torch.manual_seed(0)
    layer = LAYERS[name]().double()
    u = torch.randn(1, 6, 4, dtype=torch.float64)
    leaves = {"u": u} if of == "input" else {key: x.detach() for key, x in layer.named_parameters()}
    tangents = {key: torch.randn_like(x) for key, x in leaves.items()}

    def run(leaves: dict[str, Any]) -> torch.Tensor:
        x = leaves.get("u", u)
        parameters = leaves if of == "parameters" else {}

        class Verb(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = layer

            def forward(self) -> torch.Tensor:
                if verb == "forward":
                    return self.layer(x)
                if verb == "extend":
                    return self.layer.extend(x)[0]
                return self.layer.step(x[:, 0], self.layer.init_state(1))[0]

        return torch.func.functional_call(Verb(), {f"layer.{key}": value for key, value in parameters.items()}, ())

    refuses = verb != "step" if name in {"s5", "lru"} else of == "parameters" and name in {"rtf", "hyena"}
    if refuses or (name == "attention" and verb == "step"):
        with pytest.raises(RuntimeError, match="forward AD" if name == "attention" else "jvp"):
            torch.func.jvp(run, (leaves,), (tangents,))
        return
    y, tangent, *_ = torch.func.jvp(run, (leaves,), (tangents,))
    assert torch.allclose(y, run(leaves))
    h = 1e-5
    ahead, behind = (run({key: x + s * h * tangents[key] for key, x in leaves.items()}) for s in (1, -1))
    assert relative_error(tangent, (ahead - behind) / (2 * h)) < 1e-5
    assert bool((ahead != behind).any())


@pytest.mark.parametrize("name", ["s4", "s4d", "implicit"])
def test_a_kernel_is_the_response_to_a_pulse_with_the_feedthrough(name: str) -> None:
    torch.manual_seed(0)
    layer = LAYERS[name]().double()
    pulse = torch.zeros(1, 9, 4, dtype=torch.float64)
    pulse[:, 0] = 1
    assert relative_error(layer.kernel(9), layer(pulse)[0].mT) < 1e-12


@pytest.mark.parametrize("name", ["s4", "s4d", "s5", "lru"])
@pytest.mark.parametrize("realized", [False, True])
def test_state_space_is_the_discrete_system_that_is_run(name: str, realized: bool) -> None:
    """Two samples by its matrices: what a sample enters the state with, and what a state becomes."""
    torch.manual_seed(0)
    layer = LAYERS[name]().double()
    layer = layer.realize() if realized else layer
    system, u = layer.state_space(), torch.randn(1, 2, 4, dtype=torch.float64)
    state = layer.init_state(1)
    for u_t in u.unbind(1):
        x = state.flatten(2) if name == "s4" else torch.view_as_complex(state)
        if name in {"s5", "lru"}:
            x = system.a * x + u_t.to(x.dtype) @ system.B.mT
            expected = torch.view_as_real(x)
        else:
            A = system.A if name == "s4" else torch.diag_embed(system.A)
            x = (A @ x[..., None])[..., 0] + system.B * u_t[..., None]
            expected = x.unflatten(2, (-1, 2)) if name == "s4" else torch.view_as_real(x)
        _, state = layer.step(u_t, state)
        assert relative_error(state, expected) < 1e-12


@every
def test_only_sizes_are_positional(name: str) -> None:
    """Channels and what gives the size of the state or the heads may be positional; a horizon is not."""
    build = type(LAYERS[name]())
    positional = [p for p in inspect.signature(build).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    sizes = {"state_size", "states", "order", "width", "heads"}
    assert positional[0].name == "channels"
    assert {p.name for p in positional[1:]} <= sizes


def test_steps_that_are_no_numbers() -> None:
    with pytest.raises(ValueError, match="dt must be zero or positive numbers"):
        S5(4, 6)(torch.randn(1, 3, 4), dt=torch.tensor([[1.0, torch.nan, 1.0]]))
