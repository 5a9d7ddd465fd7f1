"""From a configuration to a model."""

from __future__ import annotations

from functools import partial

from transferfn.core import init as inits
from transferfn.models import Backbone, Classifier, LanguageModel, LanguageModelConfig, PairClassifier
from transferfn.nn import LRU, RTF, S4, S4D, S5, Attention, Hyena, ImplicitFilter
from transferfn.nn.mixer import SequenceMixer
from transferfn.nn.options import Init
from transferfn.tasks import Signature
from transferfn.training.config import AnyModelConfig, ModelConfig


def build_model(model: AnyModelConfig, signature: Signature) -> Classifier | PairClassifier | LanguageModel:
    """Build a model for a task; weights come from torch's global generator.

    Args:
        model: The model.
        signature: What the task gives and asks for.

    Raises:
        ValueError: if the values do not fit together.
    """
    if isinstance(model, LanguageModelConfig) != (signature.target == "next-token"):
        raise ValueError(
            f"a task that asks for {signature.target!r} needs another kind of model than {type(model).__name__}"
        )
    if isinstance(model, LanguageModelConfig):
        if model.vocabulary < signature.outputs:
            raise ValueError(
                f"the texts have {signature.outputs} distinct tokens, the model knows {model.vocabulary}: raise "
                "model.vocabulary"
            )
        return LanguageModel.from_config(model)
    backbone = Backbone(
        model.width,
        model.layers,
        lambda: build_mixer(model, signature.length),
        vocabulary=signature.vocabulary,
        inputs=signature.channels,
        norm=None if model.norm == "none" else model.norm,
        prenorm=model.prenorm,
        gelu=model.gelu,
        glu=model.glu,
        residual=model.residual,
        dropout=model.dropout,
        mixer_dropout=model.dropout if model.mixer_dropout is None else model.mixer_dropout,
    )
    match signature.target:
        case "class":
            return Classifier(backbone, signature.outputs, head=model.head)
        case "class-of-pair":
            return PairClassifier(backbone, signature.outputs)
        case _:
            return Classifier(backbone, signature.outputs, head="per_step")


def build_mixer(model: ModelConfig, length: int) -> SequenceMixer:
    """Build what mixes the samples of a block along time.

    Args:
        model: The model.
        length: Length of the signals, the horizon of layers that have one.

    Raises:
        ValueError: if the values do not fit together.
    """
    width, order, both = model.width, model.order, model.bidirectional
    match model.mixer:
        case "rtf":
            return _rtf(model, length)
        case "s4":
            return S4(
                width,
                order,
                horizon=length,
                measure=model.s4.measure,
                dt_min=model.s4.dt_min,
                dt_max=model.s4.dt_max,
                groups=model.s4.groups,
                bidirectional=both,
            )
        case "s4d":
            return S4D(
                width,
                order,
                init=model.s4d.init,
                discretization=model.s4d.discretization,
                dt_min=model.s4d.dt_min,
                dt_max=model.s4d.dt_max,
                groups=model.s4d.groups,
                bidirectional=both,
            )
        case "s5":
            return S5(
                width,
                order,
                blocks=model.s5.blocks,
                discretization=model.s5.discretization,
                output_init=model.s5.output_init,
                dt_min=model.s5.dt_min,
                dt_max=model.s5.dt_max,
                clip_eigenvalues=model.s5.clip_eigenvalues,
                bidirectional=both,
            )
        case "lru":
            return LRU(width, order // 2, bidirectional=both)
        case "hyena":
            if both:
                raise ValueError("the implicit filters of hyena are causal: take hyena-rtf, or bidirectional=False")
            return Hyena(width, filter=lambda: ImplicitFilter(width, horizon=length))
        case "hyena-rtf":
            return Hyena(width, filter=lambda: _rtf(model, length))
        case "attention":
            return Attention(width, model.heads, bidirectional=both)


def _rtf(model: ModelConfig, length: int) -> RTF:
    init: Init = model.init
    if model.feedthrough == "normal":
        init = partial(inits.normal_feedthrough, start=getattr(inits, model.init))
    return RTF(
        model.width,
        model.order,
        horizon=length,
        denominator_groups=model.denominator_groups,
        bidirectional=model.bidirectional,
        numerator=model.numerator,
        init=init,
        constraint=None if model.constraint == "none" else model.constraint,
    )
