"""What each way to keep filters stable costs: ``transferfn bench constraints [--quick]``.

Five maps from free parameters to denominators, in the same layer, from the same combs: how well conditioned each is
there and along training on small sequential digits, and what comes of the training. Prints Markdown and writes the same
figures to results/constraints.json.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from transferfn.bench import filters
from transferfn.bench.machine import machine, machine_line
from transferfn.bench.maps import MAPS, Map
from transferfn.core import stability
from transferfn.core.polynomial import monic, on_circle
from transferfn.files import write_json
from transferfn.models import Backbone, Classifier
from transferfn.nn import RTF
from transferfn.tasks import Dataset, SmnistConfig, load_smnist

COMMAND = "transferfn bench constraints"
MEMORIES = (64, 512, 2048)  # of the combs, in samples
POINTS = 2**15  # of the unit circle
REPEATS = 7

Row = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """The size of the study.

    Attributes:
        orders: Orders n of the filters.
        filter_rates: Learning rates of the filters' parameters.
        seeds: Seeds, one training each.
        width: Channels D of the model.
        layers: Layers of the model.
        side: Images are averaged down to side x side pixels.
        epochs: Passes over the training images.
        batch: Images a batch.
        images: Images to train on; None means all.
        lr: Learning rate of all other parameters.
    """

    orders: tuple[int, ...] = (8, 64)
    filter_rates: tuple[float, ...] = (2e-3, 2e-2)
    seeds: tuple[int, ...] = (0, 1)
    width: int = 16
    layers: int = 2
    side: int = 14
    epochs: int = 4
    batch: int = 40
    images: int | None = None
    lr: float = 4e-3


QUICK = Plan(orders=(8,), filter_rates=(2e-2,), seeds=(0,), layers=1, side=7, epochs=1, images=800)


class Parametrized(nn.Module):
    """A map as PyTorch's parametrization of a layer's ``denominator``, computed in float64 like the library's own.

    Args:
        kind: The map.
    """

    def __init__(self, kind: Map) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, raw: Tensor) -> Tensor:
        """Coefficients of free parameters.

        Args:
            raw: Free parameters.
        """
        return self.kind.denominator(raw.to(torch.float64))

    def right_inverse(self, a: Tensor) -> Tensor:
        """Free parameters of coefficients.

        Args:
            a: Rows.
        """
        return self.kind.parameters(a.to(torch.float64)).to(torch.float32)


def filters_of(kind: Map, channels: int, order: int, horizon: int) -> RTF:
    """A layer that starts from combs and writes its denominators by a map.

    Args:
        kind: The map.
        channels: Number of channels.
        order: Order n.
        horizon: Horizon in samples.
    """
    layer = RTF(channels, order, horizon=horizon, init="comb")
    parametrize.register_parametrization(layer, "denominator", Parametrized(kind), unsafe=True)
    return layer


class Spread(NamedTuple):
    """How unevenly and how strongly parameters act: extremes over denominators."""

    condition: float
    """Largest condition of a Jacobian, the ratio of its extreme singular values."""

    stiffness: float
    """Largest relative change of a filter for a change of its parameters by 1."""

    largest: float
    """Largest singular value of a Jacobian."""

    smallest: float
    """Smallest."""


def spread(kind: Map, raw: Tensor) -> Spread:
    """Measure how unevenly and how strongly parameters act.

    Args:
        kind: The map.
        raw: Free parameters, (G, n).

    Returns:
        Extremes of the Jacobian J = d a / d raw. The change of a filter 1/A is taken in the mean square over the unit
        circle, |dA / A|; its square is at most the largest eigenvalue of J^T R J, with R the autocorrelation of the
        impulse response of 1/A.
    """
    raw = raw.detach().to(torch.float64)
    jacobians = torch.func.vmap(torch.func.jacrev(kind.denominator))(raw)
    values = torch.linalg.svdvals(jacobians)
    a = kind.denominator(raw)
    correlation = torch.fft.irfft(on_circle(monic(a), POINTS).abs() ** -2, POINTS)[..., : a.shape[-1]]
    lags = torch.arange(a.shape[-1])
    correlations = correlation[..., (lags[:, None] - lags).abs()]
    largest = torch.linalg.eigvalsh(jacobians.mT @ correlations @ jacobians)[..., -1]
    return Spread(
        condition=float((values[..., 0] / values[..., -1]).max()),
        stiffness=math.sqrt(float(largest.max())),
        largest=float(values[..., 0].max()),
        smallest=float(values[..., -1].min()),
    )


def worst_of(found: Iterable[Spread]) -> Spread:
    """The extremes of several.

    Args:
        found: What was measured.
    """
    conditions, stiffnesses, largest, smallest = zip(*found, strict=True)
    return Spread(max(conditions), max(stiffnesses), max(largest), min(smallest))


def at_combs(kind: Map, order: int) -> Row:
    """Extremes at combs of either sign, for each memory.

    Args:
        kind: The map.
        order: Order n.
    """
    found: Row = {"map": kind.name, "order": order}
    for tau in MEMORIES:
        combs = (filters.comb(order, float(tau), sign=sign).a for sign in (1, -1))
        worst = worst_of(spread(kind, kind.parameters(a)) for a in combs)
        found |= {f"{name}, tau {tau}": value for name, value in worst._asdict().items()}
    return found


def train(kind: Map, order: int, filter_rate: float, plan: Plan, seed: int) -> Row:
    """Train a small classifier of digits read pixel by pixel.

    Args:
        kind: How the denominators of its filters are written.
        order: Their order n.
        filter_rate: Learning rate of the filters.
        plan: Sizes and settings.
        seed: Seed of the weights and of the order of the images.

    Returns:
        Test accuracy in percent, the extremes of the Jacobian along training, and of the filters at the end the share
        that is not certainly stable and the largest pole radius.
    """
    torch.manual_seed(seed)
    config = SmnistConfig(side=plan.side, validation=0)
    data = load_smnist(config)

    def mixer() -> RTF:
        return filters_of(kind, plan.width, order, config.signature.length)

    backbone = Backbone(plan.width, plan.layers, mixer, inputs=config.signature.channels, norm="layer")
    model = Classifier(backbone, config.signature.outputs, head="last")
    optimizer = torch.optim.AdamW(
        model.param_groups(lr=plan.lr, weight_decay=0.05, filter_lr=filter_rate, filter_weight_decay=0.0)
    )
    steps = (plan.images or len(data.train)) // plan.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        [group["lr"] for group in optimizer.param_groups],
        total_steps=plan.epochs * steps,
        pct_start=0.1,
        cycle_momentum=False,
    )

    def spreads() -> list[Spread]:
        return [spread(kind, layer.parametrizations.denominator.original) for layer in _filters(model)]

    seen, loss = spreads(), math.nan
    for _ in range(plan.epochs):
        for rows in torch.randperm(len(data.train))[: steps * plan.batch].split(plan.batch):
            batch = data.train.gather(rows.tolist())
            cost = nn.functional.cross_entropy(model(batch.inputs), batch.targets)
            optimizer.zero_grad()
            cost.backward()
            optimizer.step()
            schedule.step()
            loss = float(cost.detach())
        if not math.isfinite(loss):
            break
        seen += spreads()
    with torch.no_grad():
        verdicts = [stability(layer.system().a) for layer in _filters(model)]
    stable = torch.cat([verdict.stable for verdict in verdicts]).double().mean()
    return {
        "map": kind.name,
        "order": order,
        "filter lr": filter_rate,
        "accuracy %": _accuracy(model.eval(), data.test),
        "loss": loss,
        **worst_of(seen)._asdict(),
        "not stable %": 100 * (1 - float(stable)),
        "largest radius": max(float(verdict.radius.max()) for verdict in verdicts),
    }


def train_seeds(kind: Map, order: int, filter_rate: float, plan: Plan) -> Row:
    """Train with each seed: the mean of accuracy, loss and share, the extremes of the rest.

    Args:
        kind: How the denominators of its filters are written.
        order: Their order n.
        filter_rate: Learning rate of the filters.
        plan: Sizes and settings.
    """
    runs = [train(kind, order, filter_rate, plan, seed) for seed in plan.seeds]
    means = {key: sum(run[key] for run in runs) / len(runs) for key in ("accuracy %", "loss", "not stable %")}
    extremes = {key: max(run[key] for run in runs) for key in ("condition", "stiffness", "largest", "largest radius")}
    return {**runs[0], **means, **extremes, "smallest": min(run["smallest"] for run in runs)}


def costs(order: int) -> Iterator[Row]:
    """Milliseconds of a forward and backward pass, the least of several, the maps taking turns.

    Args:
        order: Order n.
    """
    batch, length, width = 16, 784, 64
    layers = [filters_of(kind, width, order, length) for kind in MAPS]
    u = torch.randn(batch, length, width)
    alone, whole = ([math.inf] * len(MAPS) for _ in range(2))
    for _ in range(REPEATS):
        for i, layer in enumerate(layers):
            alone[i] = min(alone[i], _milliseconds(lambda layer=layer: layer.denominator.sum().backward()))
            whole[i] = min(whole[i], _milliseconds(lambda layer=layer: layer(u).square().sum().backward()))
    for kind, of_map, of_layer in zip(MAPS, alone, whole, strict=True):
        yield {"map": kind.name, "order": order, "map alone, ms": of_map, "whole layer, ms": of_layer}


def report(*, quick: bool = False, out: Path = Path("results/constraints.json")) -> None:
    """Measure, print Markdown and write JSON.

    Args:
        quick: Order 8 and a handful of steps only, in less than a minute; figures of training then mean little.
        out: File for the figures.
    """
    torch.set_num_threads(1)
    plan = QUICK if quick else Plan()
    command = COMMAND + " --quick" * quick
    found: Row = {"command": command, "machine": machine("torch"), "plan": asdict(plan)}
    print(f"`{command}` on {machine_line(found['machine'])}, 1 thread\n")
    print("Condition of the Jacobian d a / d parameters, stiffness, largest and smallest singular value, at combs:\n")
    found["combs"] = _table(at_combs(kind, order) for order in plan.orders for kind in MAPS)
    print("\nForward and backward pass, batch 16, length 784, width 64:\n")
    found["costs"] = _table(row for order in plan.orders for row in costs(order))
    print(
        f"\nSequential digits of {plan.side**2} pixels: {plan.images or 4000} images, {plan.epochs} epochs in batches "
        f"of {plan.batch}, {plan.layers} layers of width {plan.width}, lr {plan.lr:g}, read at the last pixel, mean of "
        f"{len(plan.seeds)} seeds:\n"
    )
    found["training"] = _table(
        train_seeds(kind, order, rate, plan) for order in plan.orders for rate in plan.filter_rates for kind in MAPS
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, found)


def _filters(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, RTF)]


def _milliseconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - start)


@torch.no_grad()
def _accuracy(model: nn.Module, data: Dataset) -> float:
    batch = data.gather(range(len(data)))
    return 100 * float((model(batch.inputs).argmax(-1) == batch.targets).double().mean())


def _table(rows: Iterable[Row]) -> list[Row]:
    """Print rows as they come, and keep them."""
    kept = []
    for row in rows:
        if not kept:
            print(f"| {' | '.join(row)} |\n|{'---|' * len(row)}")
        print(f"| {' | '.join(x if isinstance(x, str) else f'{x:.4g}' for x in row.values())} |", flush=True)
        kept.append(row)
    return kept
