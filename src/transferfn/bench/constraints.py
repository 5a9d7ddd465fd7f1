"""What each way to keep filters stable costs: ``transferfn bench constraints [--quick]``.

Five maps from free parameters to denominators, in the same layer, from the same combs: how well conditioned each is
there and along training on small sequential digits, and what comes of the training. Prints Markdown and writes the same
figures to results/constraints.json.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.utils import parametrize

from transferfn.bench import filters
from transferfn.bench.machine import machine
from transferfn.core import constrain, stability
from transferfn.core.lattice import Rows, step_down, step_up
from transferfn.core.polynomial import monic, on_circle, roots
from transferfn.models import Backbone, Classifier
from transferfn.nn import RTF
from transferfn.tasks import SmnistConfig, load_smnist
from transferfn.tasks.smnist import Digits

COMMAND = "transferfn bench constraints"
MEMORIES = (64, 512, 2048)  # of the combs, in samples
LARGEST_REFLECTION = 1 - 1e-15
POINTS = 2**15  # of the unit circle
REPEATS = 7

Row = dict[str, Any]


@dataclass(frozen=True)
class Map:
    """One way to write a denominator: free parameters, all along the last axis, to coefficients and back.

    Attributes:
        name: What it is called in the report.
        denominator: From free parameters to a_1..a_n.
        parameters: From a_1..a_n to free parameters.
    """

    name: str
    denominator: Callable[[Tensor], Rows]
    parameters: Callable[[Rows], Tensor]


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


def l1(raw: Tensor) -> Rows:
    """The library's l1 constraint, its slack the last parameter.

    Args:
        raw: Free parameters, (*rows, n + 1).
    """
    return constrain.l1(raw[..., :-1], raw[..., -1])


def l1_parameters(a: Rows) -> Tensor:
    """Parameters of :func:`l1`.

    Args:
        a: Rows, (*rows, n).
    """
    raw, slack = constrain.l1_parameters(a)
    return torch.cat((raw, slack[..., None]), -1)


def plain_reflection(raw: Tensor) -> Rows:
    """Reflection coefficients k = tanh(raw), not scaled.

    Args:
        raw: Free parameters, (*rows, n).
    """
    return step_up(raw.tanh().clamp(-LARGEST_REFLECTION, LARGEST_REFLECTION))


def plain_reflection_parameters(a: Rows) -> Tensor:
    """Parameters of :func:`plain_reflection`.

    Args:
        a: Rows, (*rows, n).
    """
    return step_down(a).atanh()


def sections(raw: Tensor) -> Rows:
    """Product of n / 2 second-order sections, the two coefficients of each mapped onto the triangle of stability.

    A section is 1 + (1 + q) tanh(u) z^-1 + q z^-2 with q = tanh(v).

    Args:
        raw: All u, then all v, (*rows, n), n even.
    """
    u, v = raw.unflatten(-1, (2, -1)).unbind(-2)
    q = v.tanh().clamp(-LARGEST_REFLECTION, LARGEST_REFLECTION)
    p = (1 + q) * u.tanh().clamp(-LARGEST_REFLECTION, LARGEST_REFLECTION)
    whole = torch.ones_like(raw[..., :1])
    for p_i, q_i in zip(p.split(1, -1), q.split(1, -1), strict=True):
        whole = pad(whole, (0, 2)) + p_i * pad(whole, (1, 1)) + q_i * pad(whole, (2, 0))
    return whole[..., 1:]


def section_parameters(a: Rows) -> Tensor:
    """Parameters of :func:`sections`: conjugate poles are paired, and of real ones the largest with the smallest.

    Args:
        a: Rows, (*rows, n), n even.
    """
    rows = []
    for poles in roots(a.flatten(0, -2))[0]:
        pairs = [(-2 * float(z.real), float(z.abs()) ** 2) for z in poles if z.imag > 0]
        real = poles.real[poles.imag == 0].sort().values.tolist()
        pairs += [(-(low + high), low * high) for low, high in zip(real, reversed(real), strict=True)][: len(real) // 2]
        p, q = torch.tensor(pairs, dtype=torch.float64).unbind(-1)
        rows.append(torch.cat(((p / (1 + q)).atanh(), q.atanh())))
    return torch.stack(rows).reshape(a.shape)


MAPS = (
    Map("none", lambda raw: raw.clone(), lambda a: a),
    Map("l1", l1, l1_parameters),
    Map("reflection", constrain.reflection, constrain.reflection_parameters),
    Map("tanh reflection", plain_reflection, plain_reflection_parameters),
    Map("second-order sections", sections, section_parameters),
)


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
    layer = RTF(channels, order, horizon=horizon)
    parametrize.register_parametrization(layer, "denominator", Parametrized(kind), unsafe=True)
    return layer


def spread(kind: Map, raw: Tensor) -> tuple[float, float]:
    """How unevenly and how strongly parameters act, each the largest over denominators.

    Args:
        kind: The map.
        raw: Free parameters, (G, n).

    Returns:
        Condition of the Jacobian J = d a / d raw, the ratio of its extreme singular values; and its stiffness: the
        largest change of the filter 1/A, relative and in the mean square over the unit circle, |dA / A|, for a
        change of the parameters by 1. Its square is the largest eigenvalue of J^T R J, with R the autocorrelation of
        the impulse response of 1/A.
    """
    raw = raw.detach().to(torch.float64)
    jacobians = torch.func.vmap(torch.func.jacrev(kind.denominator))(raw)
    values = torch.linalg.svdvals(jacobians)
    a = kind.denominator(raw)
    correlation = torch.fft.irfft(on_circle(monic(a), POINTS).abs() ** -2, POINTS)[..., : a.shape[-1]]
    lags = torch.arange(a.shape[-1])
    correlations = correlation[..., (lags[:, None] - lags).abs()]
    largest = torch.linalg.eigvalsh(jacobians.mT @ correlations @ jacobians)[..., -1]
    return float((values[..., 0] / values[..., -1]).max()), math.sqrt(float(largest.max()))


def at_combs(kind: Map, order: int) -> Row:
    """Condition and stiffness at combs of either sign, the worse of the two, for each memory.

    Args:
        kind: The map.
        order: Order n.
    """
    found: Row = {"map": kind.name, "order": order}
    for tau in MEMORIES:
        both = [spread(kind, kind.parameters(filters.comb(order, float(tau), sign=sign).a)) for sign in (1, -1)]
        found[f"condition, tau {tau}"], found[f"stiffness, tau {tau}"] = map(max, *both)
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
        Test accuracy in percent, the largest condition and stiffness along training, and of the filters at the end
        the share that is not certainly stable and the largest pole radius.
    """
    torch.manual_seed(seed)
    config = SmnistConfig(side=plan.side, validation=0)
    data = load_smnist(config)

    def mixer() -> RTF:
        return filters_of(kind, plan.width, order, config.length)

    backbone = Backbone(plan.width, plan.layers, mixer, inputs=config.channels, norm="layer")
    model = Classifier(backbone, config.classes, head="last")
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

    def spreads() -> list[tuple[float, float]]:
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
        "condition": max(condition for condition, _ in seen),
        "stiffness": max(stiffness for _, stiffness in seen),
        "not stable %": 100 * (1 - float(stable)),
        "largest radius": max(float(verdict.radius.max()) for verdict in verdicts),
    }


def train_seeds(kind: Map, order: int, filter_rate: float, plan: Plan) -> Row:
    """Train with each seed: the mean of accuracy, loss and share, the largest of the rest.

    Args:
        kind: How the denominators of its filters are written.
        order: Their order n.
        filter_rate: Learning rate of the filters.
        plan: Sizes and settings.
    """
    runs = [train(kind, order, filter_rate, plan, seed) for seed in plan.seeds]
    means = {key: sum(run[key] for run in runs) / len(runs) for key in ("accuracy %", "loss", "not stable %")}
    largest = {key: max(run[key] for run in runs) for key in ("condition", "stiffness", "largest radius")}
    return {**runs[0], **means, **largest}


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
    print(f"`{command}` on {', '.join(f'{key} {value}' for key, value in found['machine'].items())}, 1 thread\n")
    print("Condition of the Jacobian d a / d parameters, and stiffness, at combs:\n")
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
    out.write_text(json.dumps(found, indent=1) + "\n")


def _filters(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, RTF)]


def _milliseconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - start)


@torch.no_grad()
def _accuracy(model: nn.Module, data: Digits) -> float:
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
