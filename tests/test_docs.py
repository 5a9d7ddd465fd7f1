"""Docstrings are tested: every public object has one, and its Args section names the arguments that there are.

The docstring of a class documents its constructor; a dataclass may document a field with the string below it instead.
A method that overrides a documented one needs a docstring only if it has more to say.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, Protocol

import pytest
from torch import Tensor, nn

PACKAGE = "transferfn"
SOURCE = Path(__file__).resolve().parents[1] / "src"


def public_modules() -> list[str]:
    """Dotted names of the modules that a user may import; found as files, so that one broken module fails alone."""
    names = (path.relative_to(SOURCE).with_suffix("").parts for path in (SOURCE / PACKAGE).rglob("*.py"))
    names = (parts[:-1] if parts[-1] == "__init__" else parts for parts in names)
    return sorted(".".join(parts) for parts in names if not any(part.startswith("_") for part in parts))


@pytest.mark.parametrize("module", public_modules())
def test_public_objects_are_documented(module: str) -> None:
    problems = list(problems_of_module(importlib.import_module(module)))
    assert not problems, "\n" + "\n".join(problems)


# ------------------------------------------------------------------------------------------------- walking


def problems_of_module(module: ModuleType) -> Iterator[str]:
    """What is wrong with the docstrings of a module and of everything public that it defines."""
    if not inspect.getdoc(module):
        yield f"{module.__name__}: no docstring"
    for name, thing in vars(module).items():
        if name.startswith("_") or not is_ours(thing, module):
            continue
        where = f"{module.__name__}.{name}"
        if inspect.isclass(thing):
            yield from problems_of_class(where, thing)
        elif callable(thing):
            yield from problems_of_function(where, inspect.unwrap(thing), skip_first=False)


def is_ours(thing: object, module: ModuleType) -> bool:
    """Whether a module defines a class or function; a package also answers for what it exports from private files."""
    if not callable(thing):
        return False
    home = getattr(thing, "__module__", None) or ""
    from_private_file = home.startswith(PACKAGE + ".") and any(part.startswith("_") for part in home.split("."))
    return home == module.__name__ or (hasattr(module, "__path__") and from_private_file)


def same_package(one: type | Callable, other: type | Callable) -> bool:
    """Whether two classes or functions come from the same top-level package."""
    return one.__module__.split(".")[0] == other.__module__.split(".")[0]


def problems_of_class(where: str, cls: type) -> Iterator[str]:
    """What is wrong with the docstrings of a class, of its constructor's arguments and of its public methods."""
    doc = own_doc(cls)
    if not doc:
        yield f"{where}: no docstring"
    # Users catch exceptions and implement protocols, they do not build them; an enumeration is built by Python.
    built_by_users = not issubclass(cls, BaseException | enum.Enum) and Protocol not in cls.__bases__
    if built_by_users and ("__init__" in vars(cls) or "__new__" in vars(cls) or arguments_in(doc)):
        documented = set().union(*(documented_by_class(base) for base in cls.__mro__ if same_package(base, cls)))
        # Fields that a dataclass has from another library are documented there.
        foreign = [base for base in cls.__mro__ if dataclasses.is_dataclass(base) and not same_package(base, cls)]
        documented |= {field.name for base in foreign for field in dataclasses.fields(base)}
        yield from compare(where, parameters(cls, skip_first=False), arguments_in(doc), documented)

    for name, member in vars(cls).items():
        if name.startswith("_"):
            continue
        function = underlying_function(member)
        if function is None:
            continue
        parents = [vars(base)[name] for base in cls.__mro__[1:] if name in vars(base)]
        skip_first = not isinstance(member, staticmethod)
        yield from problems_of_method(f"{where}.{name}", function, parents, skip_first=skip_first)


def problems_of_method(where: str, function: Callable, parents: list[object], *, skip_first: bool) -> Iterator[str]:
    """What is wrong with the docstring of a method, given what it overrides."""
    overridden = [parent for parent in map(underlying_function, parents) if parent is not None and own_doc(parent)]
    # The stand-in for torch.nn.Module.forward has a docstring that says nothing about the layer.
    overridden = [parent for parent in overridden if parent.__name__ == function.__name__]
    if not overridden:
        yield from problems_of_function(where, function, skip_first=skip_first)
        return
    own = arguments_in(own_doc(function))
    present = parameters(function, skip_first=skip_first)
    if all(same_package(parent, function) for parent in overridden):
        documented = own.union(*(arguments_in(own_doc(parent)) for parent in overridden))
        yield from compare(where, present, own, documented)
    else:  # what a library documents in its own form is not looked into
        yield from compare(where, present, own, own | present)


def problems_of_function(where: str, function: Callable, *, skip_first: bool) -> Iterator[str]:
    """What is wrong with the docstring of a function that overrides nothing."""
    doc = own_doc(function)
    if not doc:
        yield f"{where}: no docstring"
        return
    yield from compare(where, parameters(function, skip_first=skip_first), arguments_in(doc), arguments_in(doc))


def compare(where: str, present: set[str], own: set[str], documented: set[str]) -> Iterator[str]:
    """Report the arguments that no docstring documents and those that the object's own docstring invents."""
    for name in sorted(present - documented):
        yield f"{where}: argument `{name}` is not documented"
    for name in sorted(own - present):
        yield f"{where}: documents an argument `{name}` that it does not have"


# ------------------------------------------------------------------------------------------------- reading


def own_doc(thing: object) -> str:
    """The docstring written at an object itself; the signature that a dataclass gets instead of one does not count."""
    doc = inspect.cleandoc(getattr(thing, "__doc__", None) or "")
    generated = inspect.isclass(thing) and doc.startswith(f"{thing.__name__}(")
    return "" if generated else doc


def underlying_function(member: object) -> Callable | None:
    """The plain function behind a method, a class or static method, or a property; None for anything else."""
    if isinstance(member, property):
        member = member.fget
    elif isinstance(member, classmethod | staticmethod):
        member = member.__func__
    else:
        member = getattr(member, "func", member)  # functools.cached_property
    member = inspect.unwrap(member) if callable(member) else member
    return member if inspect.isfunction(member) else None


def parameters(thing: Callable, *, skip_first: bool) -> set[str]:
    """Names of the public parameters; the first one is left out where it is `self`, `cls` or the like."""
    names = list(inspect.signature(thing).parameters)[1 if skip_first else 0 :]
    return {name for name in names if not name.startswith("_")}


ENTRY = re.compile(r"(?P<names>\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: \([^)]*\))?:(?: |$)")


def arguments_in(doc: str, section: str = "Args") -> set[str]:
    r"""Names documented in one section of a Google docstring.

    >>> sorted(arguments_in("Filter.\n\nArgs:\n    a, b: Two; note:\n        aside: no name.\n    *rest: More."))
    ['a', 'b', 'rest']
    """
    body, inside = [], False
    for line in doc.splitlines():
        if line[:1].strip():  # not indented: the start of something else
            inside = line.rstrip() == f"{section}:"
        elif inside:
            body.append(line)
    names: set[str] = set()
    for line in textwrap.dedent("\n".join(body)).splitlines():
        if entry := ENTRY.match(line):
            names |= {name.lstrip("*") for name in entry["names"].split(", ")}
    return names


def documented_by_class(cls: type) -> set[str]:
    """Names that a class documents: in its Args or Attributes, or by a string below a field of a dataclass."""
    doc = own_doc(cls)
    names = arguments_in(doc) | arguments_in(doc, "Attributes")
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    for field, below in pairwise(body.body):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str())):
                names.add(name)
    return names


# ------------------------------------------------------------------------------- the test can fail


class _Layer:
    """A layer.

    Args:
        order: Number of poles.
        phantom: Not there.
    """

    def __init__(self, order: int, width: int) -> None: ...

    def run(self, u: float, *, gain: float = 1.0) -> float:
        """Run.

        Args:
            u: Input.
        """
        return u * gain

    def bare(self) -> None: ...


class _Child(_Layer):
    """A layer whose constructor is inherited."""

    def run(self, u: float, *, gain: float = 1.0, extra: float = 0.0) -> float:
        return u * gain + extra


@dataclasses.dataclass(frozen=True)
class _Config:
    """A configuration."""

    rate: float
    """Step size."""
    steps: int


class _Module(nn.Module):
    """A module without arguments of its own."""

    def forward(self, u: Tensor) -> Tensor:
        return u

    def extra_repr(self) -> str:
        return "documented by nn.Module"


class _Pair(NamedTuple):
    first: int
    """Documented."""
    second: int


@pytest.mark.parametrize(
    ("cls", "problems"),
    [
        (
            _Layer,
            [
                "argument `width` is not documented",
                "documents an argument `phantom` that it does not have",
                "run: argument `gain` is not documented",
                "bare: no docstring",
            ],
        ),
        (_Child, ["run: argument `extra` is not documented", "run: argument `gain` is not documented"]),
        (_Config, ["argument `steps` is not documented"]),
        (_Module, ["forward: no docstring"]),
        (_Pair, ["no docstring", "argument `second` is not documented"]),
    ],
)
def test_each_kind_of_mistake_is_found(cls: type, problems: list[str]) -> None:
    assert [problem.removeprefix("it").lstrip(".: ") for problem in problems_of_class("it", cls)] == problems
