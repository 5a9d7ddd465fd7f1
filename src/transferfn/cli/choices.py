"""Choices between subcommands, as types for the parser."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from functools import reduce
from typing import Annotated, Any

import tyro

from transferfn.training.recipes import Recipe, recipe_line, recipe_name, recipes_in
from transferfn.training.variant import Variant


def any_of(kinds: Iterable[Any]) -> Any:
    """Return the type of a choice between some.

    Args:
        kinds: The types.
    """
    return reduce(operator.or_, kinds)


def by_name(commands: Mapping[str, Any]) -> Any:
    """Return the type of a choice between subcommands.

    Args:
        commands: The type of each, by its name.
    """
    return any_of(Annotated[kind, tyro.conf.subcommand(name)] for name, kind in commands.items())


def of_recipes(kind: type, variant: Variant, default: Callable[[Recipe], Any]) -> Any:
    """Return the type of a choice whose subcommands are the recipes.

    Args:
        kind: What is asked for with a recipe.
        variant: Which form of the recipes.
        default: What a recipe sets of it.
    """
    return any_of(
        Annotated[
            kind,
            tyro.conf.subcommand(recipe_name(recipe), default=default(recipe), description=recipe_line(recipe)),
        ]
        for recipe in recipes_in(variant)
    )
