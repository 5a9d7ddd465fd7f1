"""Arguments that are easily got wrong: the error says what was passed, and what was expected."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nn.layers import untyped
from transferfn.nn import LRU, RTF, S4, S4D, S5, Attention, Hyena, ImplicitFilter, ShortConvolution

pytestmark = untyped
LAYERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "rtf": (RTF, {"channels": 4, "order": 2, "horizon": 8, "denominator_groups": 1}),
    "s4": (S4, {"channels": 4, "state_size": 2, "horizon": 8, "groups": 1}),
    "s4d": (S4D, {"channels": 4, "state_size": 2, "groups": 1}),
    "s5": (S5, {"channels": 4, "state_size": 2, "blocks": 1}),
    "lru": (LRU, {"channels": 4, "states": 2}),
    "implicit": (ImplicitFilter, {"channels": 4, "horizon": 8, "features": 3, "width": 4, "hidden": 1}),
    "short": (ShortConvolution, {"channels": 4, "width": 3}),
    "attention": (Attention, {"channels": 4, "heads": 2}),
    "hyena": (lambda **sizes: Hyena(**sizes, filter=lambda: S4D(4, 2)), {"channels": 4, "order": 2, "short_width": 3}),
}
SIZES = [(name, size) for name, (_, sizes) in LAYERS.items() for size in sizes]


@pytest.mark.parametrize(("name", "size"), SIZES, ids=["-".join(x) for x in SIZES])
def test_truth_values_are_no_sizes(name: str, size: str) -> None:
    build, sizes = LAYERS[name]
    build(**sizes)
    with pytest.raises(TypeError, match=f"{size} is a whole number, got True"):
        build(**(sizes | {size: True}))


@pytest.mark.parametrize(
    "response",
    [
        S4(4, 6, horizon=8).kernel,
        S4D(4, 6).kernel,
        S4D(4, 6).realize().kernel,
        S4D(4, 6).to_transfer_function,
        S5(1, 6).to_transfer_function,
    ],
    ids=["s4", "s4d", "realization", "conversion", "conversion of s5"],
)
def test_responses_have_samples(response: Any) -> None:
    for length in (0, -3):
        with pytest.raises(ValueError, match=rf"number of samples of the response, at least 1; got {length}"):
            response(length)
    for length in (2.5, "8", True, None):
        with pytest.raises(TypeError, match=rf"length is a whole number, got {length!r}"):
            response(length)


@pytest.mark.parametrize("decay", [1.5, (1.5,), (1.5, 0.3, 0.1), "ab", (1.5, "a"), (0.0, 1.0), (1.0, float("nan"))])
def test_decay_is_a_pair(decay: Any) -> None:
    with pytest.raises(ValueError, match=r"a pair of positive fractions of the horizon.*, or None, got ") as error:
        ImplicitFilter(4, horizon=8, decay=decay)
    assert repr(decay) in str(error.value)


@pytest.mark.parametrize("measure", [["legs"], "hippo", ("legs", "hippo"), None])
def test_measures_are_names_or_a_tuple(measure: Any) -> None:
    with pytest.raises(ValueError, match=r"measure must be one of 'legs', .*'fourier', or a tuple of them, got "):
        S4(4, 6, horizon=8, measure=measure)


@pytest.mark.parametrize("C", [torch.ones(4, 3), torch.ones(4, 3, 2), torch.ones(3, 4, dtype=torch.complex64)])
def test_output_vectors_are_complex(C: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"complex output vectors of shape \(4, 3\), got shape .* of torch\..*pairs"):
        S4(4, 6, horizon=8).assign_output_vector(C)


def test_output_vectors_are_tensors() -> None:
    with pytest.raises(TypeError, match="C"):
        S4(4, 6, horizon=8).assign_output_vector([1j])  # pyright: ignore[reportArgumentType]


def test_lengths_of_implicit_kernels_are_whole() -> None:
    with pytest.raises(TypeError, match=r"length is a whole number, got 2\.5"):
        ImplicitFilter(4, horizon=8).kernel(2.5)  # pyright: ignore[reportArgumentType]
