"""Analysis: what a bank of filters does, in numbers and pictures; smaller ones, and those behind kernels and data."""

from __future__ import annotations

from transferfn.analysis import plots as plots
from transferfn.analysis.distill import Distillation as Distillation
from transferfn.analysis.distill import distill as distill
from transferfn.analysis.distill import distill_layer as distill_layer
from transferfn.analysis.distill_model import distill_model as distill_model
from transferfn.analysis.identify import Identification as Identification
from transferfn.analysis.identify import fit as fit
from transferfn.analysis.reduce import Reduction as Reduction
from transferfn.analysis.reduce import reduce as reduce
from transferfn.analysis.reduce_model import ModelReduction as ModelReduction
from transferfn.analysis.reduce_model import reduce_model as reduce_model
from transferfn.analysis.regressor import TransferFunctionRegressor as TransferFunctionRegressor
