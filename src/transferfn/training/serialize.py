"""Configurations on their way to JSON and back, and where two of them differ."""

from __future__ import annotations

import json
import re
import types
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from transferfn.tasks.dataset import LATER

ConfigT = TypeVar("ConfigT")


def to_dict(config: Any) -> dict[str, Any]:
    """Return a configuration as nested dictionaries that JSON can hold.

    Args:
        config: A dataclass of plain values, paths, tuples and further such dataclasses.
    """
    hints = get_type_hints(type(config))
    return {item.name: _plain(hints[item.name], getattr(config, item.name)) for item in fields(config)}


def _plain(kind: Any, value: Any) -> Any:
    if is_dataclass(value):
        tag = {"kind": kind_name(type(value))} if len(_dataclasses(kind)) > 1 else {}
        return tag | to_dict(value)
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _dataclasses(kind: Any) -> list[type]:
    """Return which dataclasses a type allows; where there are several, JSON tells which it is."""
    return [part for part in get_args(kind) if is_dataclass(part) and isinstance(part, type)]


def kind_name(kind: type) -> str:
    """Return what a task, or a kind of model, is called.

    Args:
        kind: The class of its configuration.

    Example:
        >>> from transferfn.tasks import SmnistConfig
        >>> kind_name(SmnistConfig)
        'smnist'
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", kind.__name__.removesuffix("Config")).lower()


def from_dict(kind: type[ConfigT], values: Any) -> ConfigT:
    """Build a configuration from what ``to_dict`` made of it.

    Args:
        kind: The dataclass to build.
        values: A value for each of its fields.

    Raises:
        ValueError: naming the field that is missing, unknown or of the wrong type.

    Example:
        >>> from transferfn.training.config import OptimizerConfig
        >>> from_dict(OptimizerConfig, to_dict(OptimizerConfig(lr=0.01))) == OptimizerConfig(lr=0.01)
        True
    """
    return _build(kind, values, "")


def _build(kind: Any, values: Any, where: str) -> Any:
    if not isinstance(values, dict):
        raise ValueError(f"{where or kind.__name__}: expected an object, got {values!r}")
    hints = get_type_hints(kind)
    names = [item.name for item in fields(kind) if item.name in values or item.metadata != LATER]
    if wrong := sorted(set(names) ^ set(values)):
        what = "unknown field" if wrong[0] in values else "missing field"
        raise ValueError(f"{what} {where}{wrong[0]}")
    return kind(**{name: _read(hints[name], values[name], f"{where}{name}") for name in names})


def _read(kind: Any, value: Any, where: str) -> Any:
    """Turn one JSON value into the annotated type, or say where it does not fit."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in parts:
            return None
        if len(kinds := {kind_name(part): part for part in _dataclasses(kind)}) > 1:
            if not isinstance(value, dict) or value.get("kind") not in kinds:
                raise ValueError(f"{where}: expected an object of kind {', '.join(kinds)}, got {value!r}")
            name = value["kind"]
            return _build(kinds[name], {key: value[key] for key in value if key != "kind"}, f"{where}.")
        (kind,) = (part for part in parts if part is not type(None))
        return _read(kind, value, where)
    if is_dataclass(kind):
        return _build(kind, value, f"{where}.")
    if origin is Literal:
        if value not in parts:
            raise ValueError(f"{where}: expected one of {', '.join(map(repr, parts))}, got {value!r}")
        return value
    if origin is tuple and isinstance(value, list) and parts[1:] == (...,):
        return tuple(_read(parts[0], item, where) for item in value)
    if origin is tuple and isinstance(value, list) and len(value) == len(parts):
        return tuple(_read(part, item, where) for part, item in zip(parts, value, strict=True))
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and type(value) is kind:
        return value
    raise ValueError(f"{where}: expected {getattr(kind, '__name__', kind)}, got {value!r}")


def differences(mine: Any, other: Any) -> list[str]:
    """Say which fields of two configurations of the same type differ, and how.

    Args:
        mine: A configuration.
        other: The one to compare it with.

    Example:
        >>> from transferfn.training.config import OptimizerConfig
        >>> differences(OptimizerConfig(lr=0.01), OptimizerConfig(lr=0.02))
        ['lr 0.01 (there 0.02)']
    """
    return list(_differences(to_dict(mine), to_dict(other), ""))


def _differences(mine: dict[str, Any], other: dict[str, Any], where: str) -> Iterator[str]:
    if mine.get("kind") != other.get("kind"):
        yield f"{where}kind {mine['kind']} (there {other['kind']})"
        return
    for name, value in mine.items():
        if isinstance(value, dict):
            yield from _differences(value, other[name], f"{where}{name}.")
        elif value != other[name]:
            yield f"{where}{name} {_as_text(value)} (there {_as_text(other[name])})"


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
