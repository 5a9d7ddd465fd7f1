"""The filters of a trained model, layer by layer, and why other layers have none to show."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from transferfn.analysis.banks import FilterBank, ModalBank, channels_of, modal_bank
from transferfn.core import ModalSystem, TransferFunction
from transferfn.core.doubt import IllConditionedWarning
from transferfn.core.stability import judged
from transferfn.nn import RTF, Attention, Hyena
from transferfn.nn.diagonal import DiagonalMixer
from transferfn.nn.long_conv import LongConvolution
from transferfn.nn.state_space import StateSpaceMixer

DRAWN = 64  # channels of a layer that are looked at closely
FEWEST = 4
AFFORDABLE = 5e7  # cubes of orders: a second of eigenvalues
MEMORY = 2048  # samples within which the memory of a channel is measured


@dataclass(frozen=True, eq=False)
class LayerFilters:
    """One bank of filters of a model.

    Attributes:
        name: Which layer, such as ``layer 3``.
        kind: Class of the layer, and what of it is shown, such as ``S5, each channel to itself``.
        channels: Number of channels D of the layer.
        order: Number of real states of a channel.
        bank: Filters of the channels that are looked at closely, float64 on the CPU.
        drawn: Which channels these are, counted from 0.
        poles: Poles of as many channels as are affordable, complex, (G, n).
        unstable: Number of denominators of the layer that are certainly unstable, of all.
        undecided: Number of those of which rounding decides.
        memory: Samples that hold 99 % of the energy of each impulse response after its first sample, (drawn,), at most
            2,048.
    """

    name: str
    kind: str
    channels: int
    order: int
    bank: FilterBank
    drawn: list[int]
    poles: Tensor
    unstable: int
    undecided: int
    memory: Tensor

    @property
    def time_constants(self) -> Tensor:
        """Samples in which each mode falls by e, (G * n,): infinite on or outside the unit circle."""
        return time_constants(self.poles.abs().flatten())

    @property
    def margins(self) -> Tensor:
        """Distance of the outermost pole of each channel to the unit circle, negative outside, (G,)."""
        return 1 - self.poles.abs().amax(-1) if self.poles.shape[-1] else torch.ones(len(self.poles))

    def chosen(self, count: int = 3) -> list[int]:
        """Rows of the bank that show its range, from the shortest memory to the longest, without repetition.

        Args:
            count: How many at most.
        """
        by_memory = self.memory.argsort(stable=True).tolist()
        last = len(by_memory) - 1
        shares = [0.05 + 0.9 * place / max(1, count - 1) for place in range(count)]
        return list(dict.fromkeys(by_memory[round(last * share)] for share in shares))


@dataclass(frozen=True, eq=False)
class ModelFilters:
    """What can be looked at in a model.

    Attributes:
        layers: Banks of filters, in the order of the layers.
        without: Why other layers have no filters to show, by their names.
        doubts: What was found doubtful about filters that are shown, by the names of the layers.
    """

    layers: list[LayerFilters]
    without: dict[str, str] = field(default_factory=dict)
    doubts: dict[str, str] = field(default_factory=dict)


def time_constants(radii: Tensor) -> Tensor:
    """Samples in which modes of given pole radii fall by e; infinite from 1 on, and 0 at 0.

    Args:
        radii: Magnitudes of poles.

    Example:
        >>> time_constants(torch.tensor([0.0, math.exp(-0.1), 1.0]))
        tensor([ 0., 10., inf])
    """
    return torch.where(radii < 1, -1 / radii.clamp(max=1).log(), math.inf)


@torch.no_grad()
def model_filters(model: nn.Module, *, dt: float | None = None) -> ModelFilters:
    """Take the filters out of a model.

    Of large layers 64 channels are looked at closely, evenly spaced; poles are those of as many channels as cost about
    a second, and the verdict on stability is about all.

    Args:
        model: A model with a ``backbone`` of blocks, as training makes it.
        dt: Sampling interval in seconds; None takes each layer's own, or means per sample where it has none.

    Example:
        >>> from transferfn.models import Backbone, Classifier
        >>> model = Classifier(Backbone(4, 2, lambda: RTF(4, 6, horizon=32), inputs=1), 10)
        >>> [(layer.name, layer.kind, layer.order) for layer in model_filters(model).layers]
        [('layer 1', 'RTF', 6), ('layer 2', 'RTF', 6)]
    """
    found = ModelFilters([])
    for name, mixer, inside in _mixers(model):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", IllConditionedWarning)
            try:
                banks = _banks(mixer)
                if isinstance(banks, str):
                    found.without[name] = banks
                    continue
                for way, bank in banks.items():
                    title = ", ".join(part for part in (name, way) if part)
                    kind = f"{type(mixer).__name__}{inside}"
                    kind += ", each channel to itself" if isinstance(mixer, DiagonalMixer) else ""
                    found.layers.append(_layer(title, kind, bank, dt))
            except ArithmeticError as error:
                found.without[name] = str(error)
        if caught:
            found.doubts[name] = str(caught[0].message)
    return found


def sampling_intervals(model: nn.Module) -> set[float]:
    """The sampling intervals that layers of a model know, in seconds; none if none does.

    Args:
        model: A model with a ``backbone`` of blocks.
    """
    return {mixer.dt for _, mixer, _ in _mixers(model) if isinstance(mixer, RTF) and mixer.dt is not None}


def _mixers(model: Any) -> Iterator[tuple[str, nn.Module, str]]:
    """Layers that mix along time, what they are called and what they are a part of."""
    for number, block in enumerate(model.backbone.blocks, 1):
        kinds = (RTF, StateSpaceMixer, DiagonalMixer, Attention, LongConvolution)
        inner = [module for module in block.mixer.modules() if isinstance(module, kinds)]
        gated = " between the gates of Hyena" if isinstance(block.mixer, Hyena) else ""
        for place, mixer in enumerate(inner, 1):
            yield f"layer {number}" + (f", filter {place}" if len(inner) > 1 else ""), mixer, gated
        if not inner:
            yield f"layer {number}", block.mixer, ""


def _banks(mixer: Any) -> Mapping[str, TransferFunction | ModalBank] | str:
    """Banks of filters by their direction, or why there are none."""
    if isinstance(mixer, RTF):
        return _both_ways(mixer.transfer_function(), lambda h, way: replace(h, b=h.b[way], a=h.a[way], h0=h.h0[way]))
    if isinstance(mixer, StateSpaceMixer):
        system = mixer.state_space()
        split = _both_ways(system, lambda s, way: replace(s, C=s.C[way], D=s.D[way]))
        return {way: modal_bank(one) for way, one in split.items()}
    if isinstance(mixer, DiagonalMixer):
        return _own_paths(mixer)
    if isinstance(mixer, Attention):
        return "attention weighs samples by what they hold: it is no filter and has no transfer function"
    if isinstance(mixer, LongConvolution):
        return (
            "a response of free samples has neither poles nor a state; analysis.distill_layer(layer, ...) finds the "
            "filter of low order that comes near it"
        )
    return f"{type(mixer).__name__} is none of the layers that are filters (RTF, S4, S4D, S5, LRU)"


def _both_ways(system: Any, pick: Any) -> dict[str, Any]:
    """A bank, or the two of a layer that also runs backwards, whose numerators have a leading axis."""
    numerator = system.b if isinstance(system, TransferFunction) else system.C
    if numerator.dim() == 2:
        return {"": system}
    return {"forwards": pick(system, 0), "backwards": pick(system, 1)}


def _own_paths(mixer: DiagonalMixer) -> dict[str, ModalBank]:
    """From each channel to itself: all channels see the same states, so that there are D^2 paths with these poles."""
    system = mixer.state_space()
    a = system.a.expand(mixer.channels, -1)
    outputs = system.C.unbind() if mixer.bidirectional else [system.C]
    names = ["forwards", "backwards"] if mixer.bidirectional else [""]
    banks = {}
    for name, C in zip(names, outputs, strict=True):
        direct = torch.zeros_like(system.D) if name == "backwards" else system.D
        # A modal system takes twice the real part.
        banks[name] = modal_bank(ModalSystem(a, system.B.mT, C / 2, direct))
    return banks


def _layer(name: str, kind: str, bank: TransferFunction | ModalBank, dt: float | None) -> LayerFilters:
    if isinstance(bank, TransferFunction):
        bank = bank.to(device="cpu", dtype=torch.float64)
        order, groups = bank.order, bank.denominator_groups
        affordable = max(FEWEST, int(AFFORDABLE / max(1, order) ** 3))
        some = _spaced(groups, affordable)
        denominators = bank.a[some]
        poles = TransferFunction(torch.zeros_like(denominators), denominators, torch.zeros_like(denominators[:, 0]))
        unstable, undecided = _verdicts(bank.a)
        drawn = _spaced(bank.channels, DRAWN)
        known = poles.poles()
    else:
        order, drawn, known = bank.modes.shape[1], _spaced(bank.channels, DRAWN), bank.modes
        unstable, undecided = int((known.abs() >= 1).any(-1).sum()), 0
    small = channels_of(replace(bank, dt=bank.dt if dt is None else dt), drawn)
    return LayerFilters(name, kind, bank.channels, order, small, drawn, known, unstable, undecided, _memory(small))


def _spaced(count: int, most: int) -> list[int]:
    """Positions in 0..count-1, all or evenly spaced."""
    return list(range(count)) if count <= most else [round(i * (count - 1) / (most - 1)) for i in range(most)]


def _verdicts(a: Tensor) -> tuple[int, int]:
    """How many denominators are certainly unstable, and of how many rounding decides."""
    inside, outside = judged(a)
    return int(outside.sum()), int((~(inside | outside)).sum())


def _memory(bank: FilterBank) -> Tensor:
    h = bank.impulse_response(MEMORY + 1).double()[:, 1:]  # what passes at once is no memory
    h = torch.nan_to_num(h / h.abs().amax(-1, keepdim=True).clamp_min(1e-300), nan=1.0, posinf=1.0, neginf=1.0)
    energy = h.square().cumsum(-1)
    return (energy < 0.99 * energy[:, -1:]).sum(-1) + 1
