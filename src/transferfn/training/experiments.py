"""Experiments: sets of runs that answer one question, each with several seeds."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from transferfn.models.language_config import ConstraintOption, LanguageMixer
from transferfn.nn.options import NamedInit
from transferfn.tasks import ListopsConfig, PathfinderConfig, SmnistConfig
from transferfn.training.config import MixerName, ModelConfig, OptimizerConfig, TaskConfig, TrainConfig
from transferfn.training.recipes import Recipe, copying, delay
from transferfn.training.text import lm
from transferfn.training.variant import Variant

Experiment = Callable[[], list[TrainConfig]]
SEEDS = (0, 1, 2)


def delay_orders() -> list[TrainConfig]:
    """Delay as published, but for 8 epochs, not 20: RTF, S4 and S4D of order 512, too small to be FIR, and 1024."""
    return list(_seeded(run for order in (512, 1024) for run in _delay(order)))


def delay_short() -> list[TrainConfig]:
    """Delay of 100 samples in signals of 400, order 64, too small to be FIR: RTF, also with taps, S4, S4D and S5."""
    ours, *others = _memories(_short_delay)
    runs = [_with_taps(ours), ours, *others, _short_delay(Variant(mixer="s5"))]
    return list(_seeded(replace(run, model=replace(run.model, order=64)) for run in runs))


def copying_orders() -> list[TrainConfig]:
    """Copying of 128 tokens instead of 1,024, with RTF, S4 and S4D of orders below 64, too small to be FIR, and 64."""
    return list(_seeded(run for order in (16, 32, 64) for run in _copying(order)))


def _delay(order: int) -> list[TrainConfig]:
    return [replace(run, model=replace(run.model, order=order), epochs=8) for run in _memories(delay)]


def _copying(order: int) -> list[TrainConfig]:
    found = []
    for run in _memories(copying):
        data = replace(run.data, memorize=128, samples=2000, held_out=200)
        found.append(replace(run, data=data, model=replace(run.model, layers=2, order=order), epochs=10))
    return found


def _short_delay(variant: Variant) -> TrainConfig:
    return delay(replace(variant, size="small"))


def _with_taps(run: TrainConfig) -> TrainConfig:
    return replace(run, model=replace(run.model, numerator="lattice"))


def _memories(recipe: Recipe) -> list[TrainConfig]:
    """A recipe with RTF that remembers from birth, of a denominator each channel and of one; as published; S4; S4D."""
    published, *others = [recipe(Variant(mixer=mixer)) for mixer in ("rtf", "s4", "s4d")]
    shared = replace(published.model, init="resonators", constraint="reflection", denominator_groups=1)
    ours = [replace(published, model=model) for model in (replace(shared, denominator_groups=None), shared)]
    return [*ours, published, *others]


def mixers_smnist() -> list[TrainConfig]:
    """Sequential MNIST, 784 pixels: RTF, S4, S4D, S5 and attention of equal width and equal time."""
    return list(_seeded(_mixers(SmnistConfig(), filter_lr=0.01)))


def mixers_listops() -> list[TrainConfig]:
    """ListOps, 20 to 100 tokens, in both directions: RTF, S4, S4D, S5 and attention of equal width and equal time."""
    return list(_seeded(_mixers(LISTOPS, filter_lr=0.01, bidirectional=True)))


def mixers_pathfinder() -> list[TrainConfig]:
    """Pathfinder, 32 x 32, paths of two dashes: RTF, S4, S4D, S5 and attention of equal width and equal time."""
    return list(_seeded(_mixers(PATHFINDER, filter_lr=0.001, bidirectional=True)))


def lattice() -> list[TrainConfig]:
    """Taps of a lattice on four tasks: bands of order 8 in the time of the others, on Delay resonators of order 512."""
    # Steps of each of ten epochs: the time S4 trained in the mixers experiments, in 400, 6,180 and 1,330 steps
    # in all, or less: docs/experiments.md has what a step takes beside one of S4.
    return list(
        _seeded(
            [
                _bands(SmnistConfig(), 41, filter_lr=0.01),
                _bands(LISTOPS, 610, filter_lr=0.01, bidirectional=True),
                _bands(PATHFINDER, 122, filter_lr=0.001, bidirectional=True),
                _with_taps(_delay(512)[0]),
            ]
        )
    )


def mixers_lm() -> list[TrainConfig]:
    """Bytes of Python's source: Hyena-RTF, Hyena, Hyena-S4D and attention of equal size and equal time."""
    mixers: tuple[LanguageMixer, ...] = ("hyena-rtf", "hyena", "hyena-s4d", "attention")
    return list(_seeded((replace(lm(Variant(mixer=mixer, size="small")), epochs=10) for mixer in mixers), SEEDS[:2]))


def births_smnist() -> list[TrainConfig]:
    """Where filters start and what keeps them stable, on sequential MNIST of 14 x 14 pixels with order 8."""
    inits: tuple[NamedInit, ...] = ("resonators", "comb", "zeros", "xavier", "montel")
    constraints: tuple[ConstraintOption, ...] = ("none", "l1", "reflection")
    # Most filters that xavier draws are unstable, which no reflection coefficients can be, and l1 holds no resonators.
    left_out = {("xavier", "reflection"), ("resonators", "l1")}
    pairs = [pair for pair in itertools.product(inits, constraints) if pair not in left_out]
    return list(_seeded(_birth(init, constraint) for init, constraint in pairs))


def rates_smnist() -> list[TrainConfig]:
    """At which rate stable filters that start as combs learn best, on sequential MNIST of 14 x 14 pixels."""
    rates = (1e-3, 3e-3, 1e-2, 3e-2)
    return list(_seeded(_birth("comb", constraint, rate) for constraint in ("none", "reflection") for rate in rates))


_MIXERS: tuple[MixerName, ...] = ("rtf", "s4", "s4d", "s5", "attention")
LISTOPS = ListopsConfig(train=20_000, validation=1000, test=2000, depth=5, arguments=5, min_length=20, max_length=100)
# Five minutes are enough to learn paths of two dashes, and not those of three.
PATHFINDER = PathfinderConfig(train=20_000, validation=1000, test=2000, contour_length=2, distractors=0)


def _mixers(data: TaskConfig, *, filter_lr: float, bidirectional: bool = False) -> list[TrainConfig]:
    """One run of each mixer, of RTF with two starts that remember and stay stable, and with the paper's.

    The filters of all learn at one rate: of 0.001 and 0.01 the one at which most of them came further with one seed.
    """
    found = []
    for mixer in _MIXERS:
        model = ModelConfig(mixer=mixer, width=64, layers=2, order=32, bidirectional=bidirectional, init="comb")
        optimizer = OptimizerConfig(lr=0.01, weight_decay=0.05, filter_lr=filter_lr)
        if mixer == "attention":
            optimizer = OptimizerConfig(lr=0.001, weight_decay=0.05)
        run = TrainConfig(data=data, model=model, optimizer=optimizer, epochs=10)
        found.append(run)
        if mixer == "rtf":
            found.append(replace(run, model=replace(model, init="resonators")))
            found.append(replace(run, model=replace(model, init="zeros", constraint="none")))
    return found


def _bands(data: TaskConfig, steps: int, *, filter_lr: float, bidirectional: bool = False) -> TrainConfig:
    model = ModelConfig(width=64, layers=2, order=8, bidirectional=bidirectional, numerator="lattice", init="bands")
    optimizer = OptimizerConfig(lr=0.01, weight_decay=0.05, filter_lr=filter_lr)
    return TrainConfig(data=data, model=model, optimizer=optimizer, epochs=10, epoch_steps=steps)


def _birth(init: NamedInit, constraint: ConstraintOption, filter_lr: float = 4e-3) -> TrainConfig:
    return TrainConfig(
        data=SmnistConfig(side=14),
        model=ModelConfig(width=64, layers=3, order=8, init=init, constraint=constraint, head="last"),
        optimizer=OptimizerConfig(lr=4e-3, filter_lr=filter_lr),
        epochs=8,
    )


def _seeded(configs: Iterable[TrainConfig], seeds: tuple[int, ...] = SEEDS) -> Iterator[TrainConfig]:
    for config in configs:
        for seed in seeds:
            yield replace(config, seed=seed)


EXPERIMENTS: tuple[Experiment, ...] = (
    delay_orders,
    delay_short,
    copying_orders,
    mixers_smnist,
    mixers_listops,
    mixers_pathfinder,
    lattice,
    mixers_lm,
    births_smnist,
    rates_smnist,
)
"""What `transferfn experiment` offers, in this order."""

MINUTES: dict[Experiment, float] = {mixers_smnist: 1.0, mixers_listops: 2.0, mixers_pathfinder: 5.0, mixers_lm: 4.0}
"""Minutes that each run of an experiment trains on one thread, where runs are to take equal time, not equal epochs."""
