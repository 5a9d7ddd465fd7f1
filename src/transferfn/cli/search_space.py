"""What a sweep varies: options of a configuration, and the values that they may take."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from transferfn.training import TrainConfig
from transferfn.training.serialize import from_dict, to_dict

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """The values that an option may take: between two, or one of several."""

    option: str
    """Its place in the configuration, such as ``optimizer.lr``."""

    low: Any = None
    """The lowest value, or None if there are choices."""

    high: Any = None
    """The highest value."""

    choices: tuple[Any, ...] = ()
    """The values."""

    def suggest(self, trial: optuna.Trial) -> Any:
        """Let Optuna choose a value.

        Args:
            trial: The trial.
        """
        if self.choices:
            return trial.suggest_categorical(self.option, self.choices)
        if isinstance(self.low, int):
            return trial.suggest_int(self.option, self.low, self.high, log=True)
        return trial.suggest_float(self.option, self.low, self.high, log=True)


_ALIASES = {name: f"model.{name}" for name in ("mixer", "width", "layers", "order")}
"""What train calls options of the model for short."""


def read_ranges(search: Sequence[str], config: TrainConfig) -> dict[str, Range]:
    """Read what to vary; the ranges by their options.

    Args:
        search: What was written.
        config: The configuration whose options they are.

    Raises:
        ValueError: if one cannot be read, or an option is there twice.
    """
    found: dict[str, Range] = {}
    for text in search:
        item = read_range(text, config)
        if item.option in found:
            raise ValueError(f"--search takes each option once, got {item.option} twice: {', '.join(search)}")
        found[item.option] = item
    return dict(sorted(found.items()))


def read_range(text: str, config: TrainConfig) -> Range:
    """Read ``option=low..high`` or ``option=one,other``.

    Args:
        text: What was written.
        config: The configuration whose option it is.

    Raises:
        ValueError: if there is no such option, or the values are not of its type.

    Example:
        >>> found = read_range("optimizer.lr=1e-4..1e-2", TrainConfig())
        >>> found.option, found.low, found.high
        ('optimizer.lr', 0.0001, 0.01)
        >>> read_range("model.order=4,8", TrainConfig()).choices
        (4, 8)
        >>> read_range("optimizer.betas=0.9 0.99,0.9 0.999", TrainConfig()).choices
        ('0.9 0.99', '0.9 0.999')
    """
    option, equals, values = text.partition("=")
    option = option.strip().removeprefix("--").replace("-", "_")
    option = _ALIASES.get(option, option)
    if not equals or not values:
        raise ValueError(f"--search takes option=low..high or option=one,other, got {text!r}")
    _holder(to_dict(config), option)  # there is such an option
    if ".." not in values:
        choices = tuple(_read(part) for part in values.split(","))
        for choice in choices:
            with_value(config, option, choice)
        return Range(option=option, choices=choices)
    low, _, high = values.partition("..")
    ends = _read(low), _read(high)
    whole = _is_whole(config, option)
    if not all(isinstance(end, (int, float)) and not isinstance(end, bool) for end in ends) or (
        whole and not all(isinstance(end, int) for end in ends)
    ):
        raise ValueError(f"{option} needs two {'whole ' if whole else ''}numbers as low..high, got {values!r}")
    if not 0 < ends[0] < ends[1] or not math.isfinite(ends[1]):
        raise ValueError(f"{option} needs 0 < low < high, since values are spread on a log scale; got {values!r}")
    ends = ends if whole else (float(ends[0]), float(ends[1]))
    for end in ends:
        with_value(config, option, end)
    return Range(option=option, low=ends[0], high=ends[1])


def with_value(config: TrainConfig, option: str, value: Any) -> TrainConfig:
    """Return a configuration with another value of one option.

    Args:
        config: The configuration.
        option: The option's place, such as ``optimizer.lr``.
        value: Its value; the parts of one that has several with spaces between, as for train.

    Raises:
        ValueError: if there is no such option, or it cannot have that value.
    """
    values = to_dict(config)
    inner, name = _holder(values, option)
    several = isinstance(inner[name], list)
    inner[name] = [_read(part) for part in str(value).split()] if several else value
    return from_dict(TrainConfig, values)


def format_range(found: Range | None) -> str:
    """Write a range as it is asked for.

    Args:
        found: The range; None where an option has none.
    """
    if found is None:
        return "not searched"
    if found.choices:
        return ",".join(map(format_value, found.choices))
    return f"{format_value(found.low)}..{format_value(found.high)}"


def format_value(value: Any) -> str:
    """Write a value of an option for people.

    Args:
        value: The value.
    """
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _holder(values: dict[str, Any], option: str) -> tuple[dict[str, Any], str]:
    """Return which of the nested dictionaries of a configuration holds an option, and under which name."""
    *path, name = option.split(".")
    inner: Any = values
    for part in path:
        inner = inner.get(part) if isinstance(inner, dict) else None
    # What a dictionary tells of its own kind is no option.
    if not isinstance(inner, dict) or name == "kind" or isinstance(inner.get(name, {}), dict):
        raise ValueError(f"there is no option {option!r} to search; options are written as for train, without --")
    return inner, name


def _is_whole(config: TrainConfig, option: str) -> bool:
    """Whether an option takes whole numbers, also where it may be left out (`int | None`)."""
    *path, name = option.split(".")
    kind = get_type_hints(type(reduce(getattr, path, config)))[name]
    return int in (get_args(kind) or (kind,))


def _read(text: str) -> Any:
    """Read a value as JSON does, and what is no JSON as text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
