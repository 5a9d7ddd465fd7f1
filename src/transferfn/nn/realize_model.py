"""Whole models decoded in robust forms: each layer's filters in the form whose measured error is least."""

from __future__ import annotations

import warnings
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from transferfn.core.stability import UnstableFilterWarning, judged
from transferfn.nn.mixer import NotCausalError
from transferfn.nn.realization import Realization
from transferfn.nn.realize import LENGTH, Choice, FormOption, realize
from transferfn.nn.rtf import RTF


@dataclass(frozen=True, eq=False)
class ModelChoice:
    """A model that decodes in chosen forms, and what was measured of each layer's filters.

    Attributes:
        decoder: The model with the verbs it had, without gradients and in eval mode. States belong to the forms: only
            a decoder with the same ones takes them.
        filters: What was measured, by the names of the layers in the model.
    """

    decoder: Any
    filters: dict[str, Choice]

    def lines(self) -> list[str]:
        """What was chosen and measured, for people: one line a layer."""
        return [f"{name or type(self.decoder).__name__}: {choice.line()}" for name, choice in self.filters.items()]


@torch.no_grad()
def realize_model(
    model: nn.Module,
    *,
    form: FormOption = "auto",
    state_dtype: torch.dtype | None = None,
    length: int | None = None,
) -> ModelChoice:
    """Realise the filters of a model for decoding, those of each layer in the form whose measured error is least.

    The filters are those of RTF layers, also between the gates of Hyena, and of Realizations; other layers become what
    ``model.decoder()`` makes of them. Each form decodes white noise in the type of the layer's parameters, see
    :func:`realize`; the truth is the layer's transfer function, from its parameters in float64.

    Args:
        model: A causal model with ``decoder()``, a layer with ``realize()``, or any module made of them.
        form: ``"auto"``, or one form by name for all layers: ``"direct"``, ``"sections"``, ``"modal"``, ``"lattice"``.
        state_dtype: Type that filters keep their states in between samples, e.g. ``torch.bfloat16``; None means that of
            the signals. Summaries over time, such as the mean of a classifier, are not narrowed.
        length: Number of samples to compare. None means 4,096, but at most the horizon of a layer with filters that are
            not certainly stable, since these may grow without end.

    Returns:
        The decoder, and what was measured of each layer.

    Raises:
        ArithmeticError: if a form that was asked for does not hold the filters of a layer, which is named.
        NotCausalError: if the model looks ahead.
        ValueError: if an argument makes no sense, or the model has no such filters.

    Example:
        >>> from transferfn.models import Backbone
        >>> from transferfn.nn import Stream
        >>> model = Backbone(4, 2, lambda: RTF(4, 8, horizon=32, init="montel"), inputs=1).eval()
        >>> found = realize_model(model, length=256)
        >>> errors = {name: choice.errors[choice.form].max() for name, choice in found.filters.items()}
        >>> list(errors), all(float(error) < 1e-5 for error in errors.values())
        (['blocks.0.mixer', 'blocks.1.mixer'], True)
        >>> u = torch.randn(1, 20, 1)
        >>> torch.allclose(Stream(found.decoder, 1)(u), model(u), atol=1e-4)
        True
    """
    layers = {name: module for name, module in model.named_modules() if isinstance(module, (RTF, Realization))}
    if not layers:
        raise ValueError(
            f"this {type(model).__name__} has no filters given by transfer functions, whose form could be chosen: "
            f"decode it as it is, or distill_model() it first"
        )
    if not all(layer.is_causal for layer in layers.values()):
        raise NotCausalError(type(model).__name__, "realize_model")
    decode: Any = getattr(model, "decoder", None) or getattr(model, "realize", None)
    with warnings.catch_warnings():  # rounding to one form, which is none to stay
        warnings.simplefilter("ignore", UnstableFilterWarning)
        decoder: Any = decode() if decode else deepcopy(model).requires_grad_(False)
    filters: dict[str, Choice] = {}
    for name, layer in layers.items():
        try:
            found = _realized(layer, form, state_dtype, length)
        except ArithmeticError as error:
            raise ArithmeticError(f"{name or type(layer).__name__}: {error}") from error
        filters[name] = found
        if name:
            decoder.set_submodule(name, found.decoder)
        else:
            decoder = found.decoder
    return ModelChoice(decoder.eval(), filters)


def _realized(
    layer: RTF | Realization, form: FormOption, state_dtype: torch.dtype | None, length: int | None
) -> Choice:
    system = layer.transfer_function()
    like = next(iter((*layer.parameters(), *layer.buffers())))
    system = system.to(device="cpu")
    if length is None:
        is_stable = bool(judged(system.a)[0].all())
        length = layer.horizon if isinstance(layer, RTF) and layer.horizon < LENGTH and not is_stable else LENGTH
    found = realize(system, dtype=like.dtype, state_dtype=state_dtype, form=form, length=length)
    found.decoder.to(like.device)
    return found
