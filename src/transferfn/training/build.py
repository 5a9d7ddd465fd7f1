"""From a configuration to a model."""

from __future__ import annotations

from transferfn.models import Backbone, Classifier
from transferfn.nn import RTF
from transferfn.tasks import SmnistConfig
from transferfn.training.config import ModelConfig


def build_model(model: ModelConfig, data: SmnistConfig) -> Classifier:
    """Build a classifier of signals from RTF blocks; weights come from torch's global generator.

    Args:
        model: The model.
        data: The data, which says how long signals are and how many channels and classes there are.

    Raises:
        ValueError: if the values do not fit together.
    """

    def mixer() -> RTF:
        return RTF(
            model.width,
            model.order,
            horizon=data.length,
            denominator_groups=model.denominator_groups,
            bidirectional=model.bidirectional,
            numerator=model.numerator,
            init=model.init,
            constraint=None if model.constraint == "none" else model.constraint,
        )

    backbone = Backbone(
        model.width,
        model.layers,
        mixer,
        inputs=data.channels,
        norm=model.norm,
        prenorm=model.prenorm,
        dropout=model.dropout,
        mixer_dropout=model.dropout,
    )
    return Classifier(backbone, data.classes, head=model.head)
