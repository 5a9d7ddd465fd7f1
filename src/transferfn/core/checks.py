"""What coefficients, sizes and gains must be, told before anything is computed from them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any, SupportsFloat

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

Gain = SupportsFloat | Tensor | np.ndarray
"""A number of any kind, or a tensor or array without axes or with one gain a channel; it may have derivatives."""


def check_bank(b: Tensor, a: Tensor, h0: Tensor) -> None:
    """Raise unless coefficients make a bank.

    Args:
        b: Numerator, meant to be (*bank, D, n).
        a: Denominator, meant to be (*bank, G, n), with G a divisor of D.
        h0: Feedthrough, meant to be (*bank, D).

    Raises:
        ValueError: if shapes, types or devices do not fit together.
    """
    if b.dim() < 2 or a.dim() < 2 or b.shape[-1] != a.shape[-1] or h0.shape != b.shape[:-1]:
        raise ValueError(
            f"expected a numerator (D, n), a denominator (G, n) and a feedthrough (D), "
            f"got {tuple(b.shape)}, {tuple(a.shape)} and {tuple(h0.shape)}"
        )
    if b.shape[:-2] != a.shape[:-2]:
        raise ValueError(
            f"numerator and denominator must have the same leading axes, got {tuple(b.shape)} and {tuple(a.shape)}; "
            f"expand() repeats one of them"
        )
    channels, groups = b.shape[-2], a.shape[-2]
    if groups < 1 or channels % groups:
        raise ValueError(
            f"the number of denominators must divide the number of channels, got {groups} denominators "
            f"for {channels} channels"
        )
    if not b.dtype == a.dtype == h0.dtype or not b.is_floating_point():
        raise ValueError(f"coefficients must share one real floating-point type, got {b.dtype}, {a.dtype}, {h0.dtype}")
    if not b.device == a.device == h0.device:
        raise ValueError(f"coefficients must be on one device, got {b.device}, {a.device}, {h0.device}")


def check_interval(dt: float) -> None:
    """Raise unless a sampling interval is one.

    Args:
        dt: What the caller passed, in seconds.

    Raises:
        ValueError: if it is not positive and finite.
    """
    if not (math.isfinite(dt) and dt > 0):
        raise ValueError(f"dt is the sampling interval in seconds and must be positive, got {dt}")


def check_whole(name: str, value: object) -> None:
    """Raise unless a size is a whole number.

    Args:
        name: What the caller calls it.
        value: What the caller passed.

    Raises:
        TypeError: if it is something else.
    """
    if isinstance(value, bool) or not isinstance(value, (Integral, torch.SymInt)):
        raise TypeError(f"{name} is a whole number, got {value!r}")


def check_at_least_one(**sizes: Any) -> None:
    """Raise unless sizes are whole numbers of at least 1.

    Args:
        sizes: What the caller passed, by name.

    Raises:
        TypeError: if one is no whole number.
        ValueError: if one is less than 1.
    """
    for name, size in sizes.items():
        check_whole(name, size)
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")


def check_choice(name: str, value: object, choices: Iterable[object], otherwise: str = "") -> None:
    """Raise unless an option is one of its choices.

    Args:
        name: What the caller calls it.
        value: What the caller passed.
        choices: What it may be.
        otherwise: What else it may be, in words.

    Raises:
        ValueError: if it is none of them.
    """
    if value not in (known := tuple(choices)):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}{otherwise}, got {value!r}")


def check_length(length: Any) -> None:
    """Raise unless a number of samples of a response is one that responses have.

    Args:
        length: What the caller passed.

    Raises:
        TypeError: if it is no whole number.
        ValueError: if it is less than 1.
    """
    check_whole("length", length)
    if length < 1:
        raise ValueError(f"length is the number of samples of the response, at least 1; got {length}")


def as_tensor(value: ArrayLike | Tensor) -> Tensor:
    """A tensor of numbers of any kind, those of Python in float64, where PyTorch would round them to float32.

    Args:
        value: A tensor, an array, or lists of numbers.

    Example:
        >>> as_tensor([0.1]).dtype
        torch.float64
    """
    return value if isinstance(value, Tensor) else torch.from_numpy(np.ascontiguousarray(value))


def as_gain(value: object, channels: int) -> float | Tensor | None:
    """Gains as PyTorch takes them, or None for anything else.

    Args:
        value: What the caller passed.
        channels: Number of channels D of the filters that it is for.

    Returns:
        A number, or a real tensor without axes, (D), or (1); of a single filter any number of gains.

    Raises:
        TypeError: if gains are complex, or the value is a system of another library.
        ValueError: if they are neither one number nor one a channel.
    """
    if isinstance(value, Real):
        return float(value)
    if not isinstance(value, Tensor | np.ndarray):
        refuse_foreign("a transferfn.TransferFunction or a gain", value)
        return None
    gain = torch.as_tensor(value)
    if gain.is_complex():
        raise TypeError(f"gains are real numbers, got {gain.dtype}")
    if gain.dim() > 1 or (gain.dim() == 1 and 1 not in (channels, len(gain)) and len(gain) != channels):
        raise ValueError(f"gains are one number, or one a channel, ({channels},), got {tuple(gain.shape)}")
    return gain


def common_interval(intervals: Iterable[float | None]) -> float | None:
    """The sampling interval of filters that are put together: None goes with any other.

    Args:
        intervals: Theirs, in seconds.

    Raises:
        ValueError: if two of them differ.

    Example:
        >>> common_interval([None, 0.1, 0.1])
        0.1
    """
    given = list(dict.fromkeys(dt for dt in intervals if dt is not None))
    if len(given) > 1:
        raise ValueError(
            f"the filters must share a sampling interval, got {' and '.join(f'dt={dt}' for dt in given)}: with_rate(h, "
            f"dt) takes filters to another"
        )
    return given[0] if given else None


def interval(dt: float | int | bool | None) -> float | None:
    """Our sampling interval from that of another library: a number, or True for a unit that is not known.

    Args:
        dt: What the other library has; 0 is continuous time.

    Returns:
        Seconds, or None.

    Raises:
        TypeError: if it stands for continuous time.

    Example:
        >>> interval(True), interval(0.5)
        (None, 0.5)
    """
    if dt is None or dt is True:
        return None
    if dt is False or dt == 0:
        raise TypeError("the system is in continuous time (dt = 0): sample it with transferfn.c2d(system, dt)")
    return float(dt)


def what_instead(given: object) -> str:
    """Name the type of what was passed in the place of filters, and what makes filters of it.

    Args:
        given: What the caller passed. Objects of scipy and python-control are known by where they come from, so that
            neither need be installed.

    Example:
        >>> import scipy.signal
        >>> what_instead(scipy.signal.lti([1.0], [1.0, 1.0]))
        'a TransferFunctionContinuous of scipy, in continuous time: sample it with transferfn.c2d(system, dt)'
        >>> what_instead(0.5)
        'float'
    """
    name, home = type(given).__name__, type(given).__module__.partition(".")[0]
    if home not in ("scipy", "control") or not hasattr(given, "dt"):
        return name
    if not any(hasattr(given, part) for part in ("A", "num", "zeros")):
        return (
            f"a {name} of {home}, which has no coefficients, matrices or zeros and poles: identify filters from what "
            f"went in and came out with transferfn.fit(u, y, order=...)"
        )
    dt = given.dt  # pyright: ignore[reportAttributeAccessIssue]
    if dt is None if home == "scipy" else dt == 0 and dt is not None:
        return f"a {name} of {home}, in continuous time: sample it with transferfn.c2d(system, dt)"
    convert = "scipy_signal.from_dlti" if home == "scipy" else "control.from_control"
    return f"a {name} of {home}: convert it with transferfn.interop.{convert}(system)"


def refuse_foreign(expected: str, given: object) -> None:
    """Raise if a system of another library was passed in the place of something else.

    Args:
        expected: What was to be passed.
        given: What the caller passed.

    Raises:
        TypeError: if it is one of scipy or python-control.
    """
    if (told := what_instead(given)) != type(given).__name__:
        raise TypeError(f"expected {expected}, got {told}")
