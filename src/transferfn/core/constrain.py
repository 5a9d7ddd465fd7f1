"""Preliminary."""

from __future__ import annotations

import torch
from torch import Tensor


def step_up(k: Tensor) -> Tensor:
    """Preliminary."""
    a = k[..., :1]
    for i in range(1, k.shape[-1]):
        ki = k[..., i : i + 1]
        a = torch.cat((a + ki * a.flip(-1), ki), -1)
    return a


def reflection(raw: Tensor) -> Tensor:
    """Preliminary."""
    return step_up(raw.tanh())


def reflection_parameters(a: Tensor) -> Tensor:
    """Preliminary."""
    ks = []
    for _ in range(a.shape[-1]):
        k = a[..., -1:]
        ks.append(k)
        a = (a[..., :-1] - k * a[..., :-1].flip(-1)) / (1 - k * k)
    return torch.cat(ks[::-1], -1).atanh()


def l1(raw: Tensor, slack: Tensor) -> Tensor:
    """Preliminary."""
    return raw / (raw.abs().sum(-1, keepdim=True) + slack.abs()[..., None] + 1e-6)


def l1_parameters(a: Tensor) -> tuple[Tensor, Tensor]:
    """Preliminary."""
    total = a.abs().sum(-1)
    return a, torch.where(total < 1 - 1e-6, 1 - total - 1e-6, 1.0)
