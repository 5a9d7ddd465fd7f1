"""What the user has to change before a command can be carried out."""

from __future__ import annotations

from importlib.util import find_spec


class UsageError(Exception):
    """Raised when the command line cannot be understood, or asks for what is not installed."""


def require(*packages: str, extra: str) -> None:
    """Say now, rather than after hours of training, what is not installed.

    Args:
        *packages: What a command needs.
        extra: The extra of this package that they come with.

    Raises:
        UsageError: naming the first one that is missing.
    """
    for package in packages:
        if find_spec(package) is None:
            raise UsageError(f"this command needs the package {package}: pip install 'transferfn[{extra}]'")
