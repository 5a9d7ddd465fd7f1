"""Normalisation over channels of padded sequences."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NormKind = Literal["batch", "layer"]


class BatchNorm(nn.Module):
    r"""Batch normalisation of a signal (B, L, D) whose statistics leave padding out.

    In training each channel is normalised by its mean and variance over the valid samples of the batch, and running
    averages of both are kept; in eval mode those averages make it an affine map of each sample. Without padding it
    computes what `torch.nn.BatchNorm1d` computes, and its state dict has the same names. (A class of its own, because
    torch's cannot mask.) A batch with fewer than two valid samples leaves the running averages alone. In distributed
    training statistics are those of each process's own samples, until `synchronize_norms` makes them those of all.

    Args:
        channels: Number of channels D.
        eps: Added to the variance.
        momentum: Weight of the newest batch in the running averages, in 0..1.

    Example:
        >>> norm = BatchNorm(2)
        >>> u = torch.tensor([[[1.0, 0.0], [3.0, 4.0], [float("nan"), 7.0]]])
        >>> norm(u, valid=torch.tensor([[True, True, False]]))[0, :2].tolist()
        [[-1.0, -1.0], [1.0, 1.0]]
    """

    weight: nn.Parameter
    bias: nn.Parameter
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, channels: int, *, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.channels = channels
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.synchronized = False
        self.register_buffer("running_mean", torch.empty(channels))
        self.register_buffer("running_var", torch.empty(channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the affine map to the identity and forget the running averages."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)
        self.running_mean.zero_()
        self.running_var.fill_(1)
        self.num_batches_tracked.zero_()

    def forward(self, u: Tensor, valid: Tensor | None = None) -> Tensor:
        """Normalise each channel.

        Args:
            u: Input, (..., D).
            valid: True at the samples that count, (...), the shape of `u` without channels; None means all.

        Returns:
            Normalised input, (..., D), in the dtype of `u`. What it holds where `valid` is false is unspecified.

        Raises:
            ValueError: if a training batch has a single sample, whose variance is zero.
        """
        if self.training and (valid is not None or self.synchronized):
            return self._normalize_valid(u, valid)
        rows = u.reshape(-1, self.channels)
        if rows.shape[0] == 0:
            return u
        if self.training:
            if rows.shape[0] == 1:
                raise ValueError(
                    f"batch norm in training needs more than one sample to take statistics of, got an input of shape "
                    f"{tuple(u.shape)}. Call .eval() to run on single samples, or train with norm='layer'."
                )
            self.num_batches_tracked.add_(1)
        y = F.batch_norm(
            rows,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training,
            self.momentum,
            self.eps,
        )
        return y.reshape(u.shape)

    def _normalize_valid(self, u: Tensor, valid: Tensor | None) -> Tensor:
        if valid is None:
            valid = torch.ones(u.shape[:-1], dtype=torch.bool, device=u.device)
        keep = valid[..., None]
        over = tuple(range(u.dim() - 1))
        x = u.to(torch.promote_types(u.dtype, torch.float32))
        count = self._of_all(valid.sum().to(x.dtype))
        mean = self._of_all(torch.where(keep, x, 0).sum(over)) / count.clamp(min=1)
        # Two passes, and where after the subtraction: neither cancellation nor a NaN in the padding.
        centred = torch.where(keep, x - mean, 0)
        var = self._of_all(centred.square().sum(over)) / count.clamp(min=1)
        self._track(mean, var, count)
        scale = self.weight * torch.rsqrt(var + self.eps)
        return torch.addcmul(self.bias, centred, scale).to(u.dtype)

    def _of_all(self, value: Tensor) -> Tensor:
        """Add up what each process has; the gradient flows back to all of them."""
        if not self.synchronized:
            return value
        from torch.distributed.nn.functional import all_reduce

        return all_reduce(value)

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor, count: Tensor) -> None:
        kind = self.running_mean.dtype
        enough = count > 1  # on the device: looking at it would wait for an accelerator
        newest = self.momentum * enough.to(kind)
        unbiased = var * (count / (count - 1).clamp(min=1))
        self.running_mean.lerp_(mean.to(kind), newest)
        self.running_var.lerp_(unbiased.to(kind), newest)
        self.num_batches_tracked.add_(enough)

    def extra_repr(self) -> str:
        """Return what `repr` shows."""
        return f"{self.channels}, eps={self.eps}, momentum={self.momentum}"


class LayerNorm(nn.LayerNorm):
    """Layer normalisation of each sample over its channels; takes and ignores the mask that `BatchNorm` needs.

    Args:
        channels: Number of channels D.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def forward(self, input: Tensor, valid: Tensor | None = None) -> Tensor:
        """Normalise each sample.

        Args:
            input: Input, (..., D).
            valid: Ignored: samples do not see each other.

        Returns:
            Normalised input, (..., D), in the dtype of `input`, also where autocast widens.
        """
        return super().forward(input).to(input.dtype)


def synchronize_norms(model: nn.Module, synchronized: bool) -> None:
    """Let the batch norms of a model take their statistics over the samples of all processes, or of their own again.

    It needs an initialised process group whose processes all call the model in training mode the same number of times.

    Args:
        model: The model.
        synchronized: Whether statistics are those of all processes.
    """
    for module in model.modules():
        if isinstance(module, BatchNorm):
            module.synchronized = synchronized


def make_norm(kind: NormKind | None, channels: int) -> BatchNorm | LayerNorm | None:
    """Build a normalisation layer, or none.

    Args:
        kind: "batch", "layer", or None.
        channels: Number of channels D.

    Raises:
        ValueError: if `kind` is none of these.
    """
    match kind:
        case "batch":
            return BatchNorm(channels)
        case "layer":
            return LayerNorm(channels)
        case None:
            return None
    raise ValueError(f'norm must be "batch", "layer" or None, got {kind!r}.')
