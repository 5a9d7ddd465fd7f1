"""Models of this package known to transformers as soon as it is there, without an import of it here.

transformers has no place where a package could say what it brings, such as an entry point, and importing it takes
seconds that ``import transferfn`` must not. So this package waits: when a module of transformers that keeps a list of
models has been imported, the module here that adds to this list is imported after it.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

FOLLOWED_BY = {
    "transformers.models.auto.configuration_auto": "transferfn.interop.huggingface_config",
    "transformers.models.auto.modeling_auto": "transferfn.interop.huggingface",
}
"""Modules that keep lists, and those here that add to them."""


class Registration(MetaPathFinder):
    """Finds no module, but sees to it that some are followed by others; it leaves ``sys.meta_path`` when all are."""

    def __init__(self) -> None:
        self.awaited = dict(FOLLOWED_BY)

    def find_spec(self, fullname: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return what the other finders know of an awaited module, with a loader that also imports what follows it.

        Args:
            fullname: Name of the module.
            path: Where its package looks for modules, a list or what namespace packages have in place of one.
            target: The module to load anew, if there is one.
        """
        if fullname not in self.awaited:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _Followed(spec.loader, self)  # pyright: ignore[reportAttributeAccessIssue]
        return spec

    def follow(self, name: str) -> None:
        """Import what follows a module that has been imported.

        Args:
            name: Name of the module.
        """
        following = self.awaited.pop(name, None)
        if not self.awaited and self in sys.meta_path:
            sys.meta_path.remove(self)
        if following is not None:
            with suppress(ImportError):  # too old a transformers, which serves others; importing `following` says so
                import_module(following)


class _Followed:
    """The loader of a module, which tells when that has been executed and then gets out of the way."""

    def __init__(self, loader: Any, registration: Registration) -> None:
        self._loader, self._registration = loader, registration

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._registration.follow(module.__name__)


def await_transformers() -> None:
    """Add the models of this package to the lists of transformers: now if these are there, else as soon as they are."""
    if any(isinstance(finder, Registration) for finder in sys.meta_path):
        return
    registration = Registration()
    sys.meta_path.insert(0, registration)
    for name in FOLLOWED_BY:
        if name in sys.modules:
            registration.follow(name)
