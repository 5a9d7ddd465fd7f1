"""Whole models: encoder, blocks, head. Each has the verbs of a single mixer."""

from __future__ import annotations

from transferfn.models.backbone import Backbone as Backbone
from transferfn.models.classifier import Classifier as Classifier
from transferfn.models.language_model import LanguageModel as LanguageModel
from transferfn.models.language_model import LanguageModelConfig as LanguageModelConfig
from transferfn.models.pair import PairClassifier as PairClassifier
