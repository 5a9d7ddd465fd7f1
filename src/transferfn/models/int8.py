"""Decoding with weights of one byte: a step of a large model takes the time in which its weights are read."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transferfn.kernels.narrow import product
from transferfn.models.language_model import LanguageModel

LARGEST = 127  # of a signed byte, without the one that has no counterpart
FEW = 16  # rows up to which the bytes are multiplied as they are; for more the weights are widened first


class Int8Linear(nn.Linear):
    """A linear map with weights of one byte and a scale for each output, for the CPU and without gradients.

    Its ``weight`` has the shape of what it stands for, but not its values: it is of zeros in float32, on the CPU.

    Args:
        weight: The weights, (outputs, inputs), on the CPU.
        bias: The bias, (outputs), or None.

    Raises:
        ValueError: if the weights are elsewhere.

    Example:
        >>> weight, x = torch.eye(8), torch.linspace(-1, 1, 8)[None]
        >>> bool((Int8Linear(weight, None)(x) - x).abs().max() < 1e-6)
        True
    """

    bytes: Tensor
    scale: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        _check_device(weight)
        super().__init__(weight.shape[1], weight.shape[0], bias=False, device="meta", dtype=torch.float32)
        wide = weight.detach().to(device="cpu", dtype=torch.float32)
        scale = wide.abs().amax(1).clamp_min(LARGEST * torch.finfo(torch.float32).tiny) / LARGEST
        self.register_buffer("scale", scale)
        self.register_buffer("bytes", (wide / scale[:, None]).round().to(torch.int8))
        self.weight = nn.Parameter(torch.zeros(()).expand(*weight.shape), requires_grad=False)  # takes no memory
        self.bias = None if bias is None else nn.Parameter(bias.detach().to(device="cpu", dtype=torch.float32))
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Map the last axis.

        Args:
            x: Input, (..., inputs).

        Returns:
            Output, (..., outputs), in the type of the input.
        """
        rows = x.detach().float().flatten(0, -2)
        if len(rows) > FEW:
            y = F.linear(rows, self.bytes.float() * self.scale[:, None], self.bias)
        else:
            y = product(rows, self.bytes, self.scale)
            y = y if self.bias is None else y + self.bias
        return y.view(*x.shape[:-1], self.out_features).to(x.dtype)


class Int8Decoder(LanguageModel):
    """A language model for decoding on a CPU, all of whose linear maps, its head among them, have weights of one byte.

    The filters and their states are as precise as before, as are the vectors of tokens that go in.

    Args:
        model: The model, on the CPU; it is left as it is.

    Raises:
        ValueError: if it is elsewhere.

    Example:
        >>> from transferfn.models.language_model import tiny
        >>> model = LanguageModel.from_config(tiny()).eval()
        >>> tokens = torch.randint(256, (1, 9))
        >>> narrow, wide = Int8Decoder(model)(tokens), model(tokens)
        >>> bool((narrow - wide).abs().max() < 0.1 * wide.abs().max())
        True
    """

    def __init__(self, model: LanguageModel) -> None:
        for parameter in model.parameters():
            _check_device(parameter)
        backbone = model.backbone.decoder()
        for name, part in list(backbone.named_modules()):
            if type(part) is nn.Linear:
                backbone.set_submodule(name, Int8Linear(part.weight, part.bias))
        super().__init__(backbone)
        self.head = Int8Linear(model.embedding.weight, None)
        self.eval()

    def decoder(self) -> LanguageModel:
        """Return this model: it is one for decoding."""
        return self

    def logits(self, features: Tensor) -> Tensor:
        """Score tokens by features.

        Args:
            features: What the backbone returns, (..., D).

        Returns:
            Logits, (..., vocabulary), in the dtype of the features.
        """
        return self.head(features)


def _check_device(weight: Tensor) -> None:
    if weight.device.type != "cpu":
        raise ValueError(
            f"weights of one byte are for decoding on the CPU, got some on {weight.device}: move the model there "
            'first, model.to("cpu"), or decode it as it is'
        )
