"""Whether a native loop can be called as it is, or must be called as an operator that PyTorch can trace."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_legacy_batchedtensor  # pyright: ignore[reportMissingModuleSource, reportMissingImports]
from torch.autograd import Function, forward_ad
from torch.utils._python_dispatch import _get_current_dispatch_mode


def values_are_hidden() -> bool:
    """Whether a decision on values is impossible: inside a compiled graph or a function transform."""
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()


def apply(function: type[Function], *arguments: Any) -> Any:
    """Call ``function.apply``, which looks up its signature each time: 20 microseconds, spared where nobody transforms.

    Args:
        function: A differentiable function without defaults.
        arguments: Its arguments, all of them.
    """
    if is_eager():
        return super(Function, function).apply(*arguments)  # pyright: ignore[reportAttributeAccessIssue]
    return function.apply(*arguments)


def is_plain(*tensors: Tensor) -> bool:
    """Whether nobody watches what is done with tensors: no derivative, no transform, no compiler.

    An operator costs ten microseconds, which short signals notice.

    Args:
        tensors: All floating-point arguments.
    """
    if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
        return False
    return is_eager(*tensors) and all(type(x) in (Tensor, nn.Parameter) for x in tensors)


def is_eager(*tensors: Tensor) -> bool:
    """Whether operations run as they are called: outside of compiled graphs, transforms and dispatch modes.

    Args:
        tensors: What may be a batch of gradients, of which ``torch.autograd.grad`` tells nobody else.
    """
    return not (
        values_are_hidden()
        or forward_ad._current_level >= 0
        or _get_current_dispatch_mode() is not None
        or any(is_legacy_batchedtensor(x) for x in tensors)
    )
