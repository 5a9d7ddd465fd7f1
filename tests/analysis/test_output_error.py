from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
import torch

from transferfn.analysis import output_error
from transferfn.analysis.output_error import Form, Records


def records(*, inputs: int = 2, missing: float = 0.2, seed: int = 0) -> Records:
    """Two records of different lengths, some outputs of which are missing; each input acts through its own poles."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([60, 45])
    u = torch.randn(2, 60, inputs, dtype=torch.float64, generator=generator)
    noise = torch.randn(2, 60, dtype=torch.float64, generator=generator)
    parts = [scipy.signal.lfilter([0, 1, j], np.poly([0.9 - j, 0.5]), u[..., j]) for j in range(inputs)]
    y = torch.from_numpy(sum(parts)) + 0.1 * noise
    inside = torch.arange(60) < lengths[:, None]
    known = inside & (torch.rand(2, 60, generator=generator) >= missing)
    return Records(u * inside[..., None], torch.where(known, y, 0), known, lengths)


def by_definition(data: Records, a: torch.Tensor, form: Form) -> np.ndarray:
    """The least cost for given denominators: every column filtered by scipy, one dense least-squares problem."""
    n, groups = a.shape[-1], len(a)
    columns, right = [], []
    for r in range(len(data.y)):
        rows = data.known[r].numpy()
        mine = []
        for j in range(data.inputs):
            den = np.r_[1, a[j * groups // data.inputs]]
            first = 0 if form.feedthrough else 1
            mine += [scipy.signal.lfilter(row, den, data.u[r, :, j])[rows] for row in np.eye(n + 1)[first:]]
        if form.constant:
            mine.append(np.ones(rows.sum()))
        for other in range(len(data.y)) if form.initial else ():
            for g in range(groups):
                for i in range(n):
                    free = scipy.signal.lfilter(np.eye(n)[i], np.r_[1, a[g]], np.eye(60)[0])
                    mine.append(free[rows] * (other == r))
        columns.append(np.stack(mine, 1))
        right.append(data.y[r, rows].numpy())
    x, y = np.concatenate(columns), np.concatenate(right)
    solution = np.linalg.lstsq(x, y)[0]
    return np.square(y - x @ solution).sum()


FORMS = [Form(), Form(feedthrough=False), Form(constant=True), Form(initial=False), Form(False, True, False)]
SHARED = torch.tensor([[-1.2, 0.5, -0.1]], dtype=torch.float64)
OWN = torch.cat((SHARED, torch.tensor([[0.3, 0.2, 0.1]], dtype=torch.float64)))


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("a", [SHARED, OWN], ids=["shared", "own"])
def test_the_linear_problem_is_solved_as_by_definition(form: Form, a: torch.Tensor) -> None:
    data = records()
    model = output_error.solve(data, a, form)
    assert model.cost == pytest.approx(by_definition(data, a, form), rel=1e-9)
    error = torch.where(data.known, data.y - output_error.predict(data, model, form), 0)
    assert float(error.square().sum()) == pytest.approx(model.cost, rel=1e-9)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("a", [SHARED, OWN], ids=["shared", "own"])
def test_the_gradient_is_that_of_the_least_cost(form: Form, a: torch.Tensor) -> None:
    data = records()
    found = output_error._solve(data, a, form, None)
    block, right = output_error._reduced_system(data, found, form, None)
    gradient = (-2 * block.mT @ right).view_as(a)
    step = 1e-6
    for index in np.ndindex(*a.shape):
        ahead, behind = a.clone(), a.clone()
        ahead[index] += step
        behind[index] -= step
        slope = (by_definition(data, ahead, form) - by_definition(data, behind, form)) / (2 * step)
        assert float(gradient[index]) == pytest.approx(slope, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("a", [SHARED, OWN], ids=["shared", "own"])
def test_steps_lower_the_cost_and_end_where_the_gradient_vanishes(a: torch.Tensor) -> None:
    data, form = records(), Form(constant=True)
    start = output_error.solve(data, a, form)
    end = output_error.refine(data, start, form, steps=200, tolerance=1e-14)
    assert end.cost < start.cost
    block, right = output_error._reduced_system(data, output_error._solve(data, end.a, form, None), form, None)
    assert float((block.mT @ right).abs().max()) < 1e-4 * end.cost
    assert float(np.abs(np.roots(np.r_[1, end.a[0]])).max()) < 1


def test_a_prior_is_as_good_as_the_data_it_comes_from() -> None:
    """One record, then another with what is known of the first: for a fixed denominator the same as both together."""
    both, form = records(inputs=1, missing=0.0), Form()
    first, second = (
        Records(both.u[i : i + 1], both.y[i : i + 1], both.known[i : i + 1], both.lengths[i : i + 1]) for i in (0, 1)
    )
    model = output_error.refine(both, output_error.solve(both, SHARED, form), form, steps=100)
    prior = output_error.information(first, output_error.solve(first, model.a, form), form)
    later = output_error.solve(second, model.a, form, prior)
    torch.testing.assert_close(later.numerators, model.numerators, rtol=0, atol=1e-9)


def test_poles_outside_are_mirrored() -> None:
    a = torch.from_numpy(np.poly([1.25, 0.5 + 0.5j, 0.5 - 0.5j]).real[None, 1:].copy())
    found = output_error.mirrored(a, edge=0.999)
    assert found is not None
    np.testing.assert_allclose(found[0], np.poly([0.8, 0.5 + 0.5j, 0.5 - 0.5j]).real[1:], atol=1e-14)
    slow = output_error.mirrored(torch.tensor([[-0.9999]], dtype=torch.float64), edge=0.999)
    torch.testing.assert_close(slow, torch.tensor([[-0.999]], dtype=torch.float64))
    inside = output_error.mirrored(found, edge=0.999)
    assert inside is found
    assert output_error.mirrored(torch.full((1, 2), torch.nan, dtype=torch.float64), edge=0.999) is None


def test_delays() -> None:
    x = torch.tensor([[1.0, 2.0, 3.0]])
    expected = torch.tensor([[[0.0, 0.0], [1.0, 0.0], [2.0, 1.0]]])
    torch.testing.assert_close(output_error.delays(x, 2, first=1), expected)
