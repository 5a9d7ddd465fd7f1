"""The sampling interval goes with the filters whatever they are made into; continuous time is refused, with advice."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import scipy.signal
import torch

import transferfn
from core.banks import bank
from transferfn import RTF, Realization, StateSpace, TransferFunction, linear_filter, realize, select
from transferfn.analysis import plots
from transferfn.analysis.banks import modal_bank
from transferfn.analysis.reduce import reduce
from transferfn.analysis.reduce_model import reduce_model
from transferfn.core import ModalSystem, c2d, d2c, from_modal, from_state_space, minimal, stack, to_modal, with_rate
from transferfn.core.forms import modes, second_order_sections
from transferfn.interop import scipy_signal
from transferfn.interop.source_code import filter_as_c
from transferfn.models.substitutes import described
from transferfn.nn import ModalRealization

DT = 1 / 44_100


def filters(dt: float | None = DT) -> TransferFunction:
    return TransferFunction(*bank(3), dt)


@pytest.mark.parametrize("dt", [None, DT])
def test_conversions_there_and_back_keep_it(dt: float | None) -> None:
    h = filters(dt)
    assert h.state_space().dt == to_modal(h).value.dt == modes(h).dt == dt
    assert from_state_space(*h.state_space()).value.dt == dt
    assert from_modal(to_modal(h).value).value.dt == dt
    assert modal_bank(to_modal(h).value).dt == dt
    assert h.truncate(50).transfer_function().dt == h.to(dtype=torch.float32).dt == h.stabilize(50)[0].dt == dt
    assert minimal(h).value.dt == stack([h, h]).dt == select(h, [1]).dt == dt
    assert scipy_signal.from_sos(scipy_signal.to_sos(h).value, dt=dt).value.dt == dt
    for form in ("tf", "zpk", "ss"):
        assert scipy_signal.from_dlti(scipy_signal.to_dlti(h, channel=0, form=form)).value.dt == dt


@pytest.mark.parametrize("dt", [None, DT])
def test_the_way_to_python_control_keeps_it(dt: float | None) -> None:
    control = pytest.importorskip("control")
    from transferfn.interop.control import from_control, to_ss, to_tf

    h = filters(dt)
    again = from_control(to_ss(select(h, [0]))).value  # ss -> tf -> control
    assert (again.dt, to_tf(again).dt) == (dt, True if dt is None else dt)
    system = control.ss([[0.5]], [[1.0]], [[1.0]], [[0.0]], True if dt is None else dt)
    matrices = StateSpace(*(torch.as_tensor(x) for x in (system.A, system.B, system.C, system.D)), system.dt)
    assert from_state_space(*matrices).value.dt == dt  # python-control's True is our None


@pytest.mark.parametrize("dt", [None, DT])
@pytest.mark.parametrize("form", ["direct", "sections", "modal", "lattice"])
def test_decoders_keep_it(form: str, dt: float | None) -> None:
    decoder = realize(filters(dt), form=form, length=8).decoder
    found = (
        decoder.to_transfer_function(100)[0] if isinstance(decoder, ModalRealization) else decoder.transfer_function()
    )
    assert decoder.dt == found.dt == dt


@pytest.mark.parametrize("numerator", ["truncated", "exact"])
@pytest.mark.parametrize("dt", [None, DT])
def test_layers_keep_it(dt: float | None, numerator) -> None:
    layer = RTF(4, 3, horizon=20, numerator=numerator, dt=dt)
    layers = [layer, layer.with_horizon(30), layer.stabilize()[0], layer.realize(), copy.deepcopy(layer)]
    layers += [described(one).build() for one in (layer, layer.realize())]
    layers += [reduce_model(layer, tolerance=0.5).model]
    for one in layers:
        assert one.transfer_function().dt == dt
    assert ("dt=" in repr(layer)) == (dt is not None)
    if dt is not None:
        with pytest.raises(ValueError, match=r"must be positive, got 0"):
            RTF(4, 3, horizon=20, dt=0.0)


def test_continuous_time_is_an_interval_of_zero() -> None:
    h = c2d(([1.0], [1.0, 1.0]), DT).value
    continuous = d2c(h).value
    assert continuous.dt == 0
    assert c2d(continuous, DT).value.dt == c2d(continuous._replace(dt=None), DT).value.dt == DT
    assert with_rate(h, 2 * DT).value.dt == 2 * DT
    with pytest.raises(TypeError, match=r"continuous time \(dt = 0\): sample it with transferfn\.c2d"):
        from_state_space(*continuous)
    with pytest.raises(TypeError, match=r"discrete time already.*from_state_space"):
        c2d(h.state_space(), DT)
    with pytest.raises(TypeError, match=r"discrete time already, here dt=.*with_rate\(h, dt\)"):
        c2d(h, DT)


TAKERS: dict[str, Any] = {
    "product": lambda x: filters() * x,
    "product from the left": lambda x: x * filters(),
    "sum": lambda x: filters() + x,
    "difference": lambda x: filters() - x,
    "feedback": lambda x: filters().feedback(x),
    "stack": lambda x: stack([filters(), x]),
    "select": lambda x: select(x, [0]),
    "from_ba": lambda x: scipy_signal.from_ba(x, [1.0]),
    "from_sos": scipy_signal.from_sos,
    "linear_filter": lambda x: linear_filter(torch.ones(1, 3, 1), x),
    "sections": second_order_sections,
    "reduce": lambda x: reduce(x, order=1),
    "source": filter_as_c,
    "quotient": lambda x: filters() / x,
    "minimal": minimal,
    "to_modal": to_modal,
    "d2c": d2c,
    "with_rate": lambda x: with_rate(x, 0.1),
    "to_ba": scipy_signal.to_ba,
    "realize": realize,
    "Realization": Realization,
    "plots": plots.bode_magnitude,
}
SCIPYS: Any = scipy.signal.lti([1.0], [1.0, 1.0])


@pytest.mark.compile  # without the type-checking hook, which would speak first
@pytest.mark.parametrize("form", ["to_tf", "to_ss", "to_zpk"])
@pytest.mark.parametrize("take", TAKERS.values(), ids=TAKERS)
def test_scipys_objects_are_refused_with_advice(take, form: str) -> None:
    system = getattr(SCIPYS, form)()
    with pytest.raises(TypeError, match=r"in continuous time: sample it with transferfn\.c2d\(system, dt\)") as refused:
        take(system)
    advice = str(refused.value).split("sample it with ")[1]
    assert eval(advice, {"transferfn": transferfn, "system": system, "dt": 0.1}).value.dt == 0.1
    with pytest.raises(TypeError, match=r"convert it with transferfn\.interop\.scipy_signal\.from_dlti\(system\)"):
        take(scipy.signal.dlti([1.0], [1.0, -0.5], dt=0.1))


@pytest.mark.compile
@pytest.mark.parametrize("take", TAKERS.values(), ids=TAKERS)
def test_python_controls_objects_are_refused_with_advice(take) -> None:
    control = pytest.importorskip("control")
    for system in (control.tf([1.0], [1.0, 1.0]), control.ss([[-1.0]], [[1.0]], [[1.0]], [[0.0]])):
        with pytest.raises(TypeError, match=r"in continuous time: sample it with transferfn\.c2d\(system, dt\)"):
            take(system)
    for dt in (0.1, True, None):
        with pytest.raises(TypeError, match=r"convert it with transferfn\.interop\.control\.from_control\(system\)"):
            take(control.tf([1.0], [1.0, -0.5], dt))


@pytest.mark.compile
def test_objects_of_the_other_library_are_told_where_to_go() -> None:
    control = pytest.importorskip("control")
    from transferfn.interop.control import from_control

    with pytest.raises(TypeError, match="control, in continuous time: sample it with"):
        scipy_signal.from_dlti(control.tf([1.0], [1.0, 1.0]))
    with pytest.raises(TypeError, match=r"interop\.control\.from_control"):
        scipy_signal.from_dlti(control.tf([1.0], [1.0, -0.5], 0.1))
    with pytest.raises(TypeError, match="scipy, in continuous time: sample it with"):
        from_control(SCIPYS)
    with pytest.raises(TypeError, match=r"scipy_signal\.from_dlti"):
        from_control(scipy.signal.dlti([1.0], [1.0, -0.5]))
    assert ModalSystem(*(torch.ones(1, 1),) * 3, torch.ones(1)).dt is None
