"""Training: recipes, a loader that resumes exactly, and one function that trains."""

from __future__ import annotations

from transferfn.training.config import ModelConfig as ModelConfig
from transferfn.training.config import OptimizerConfig as OptimizerConfig
from transferfn.training.config import RunOptions as RunOptions
from transferfn.training.config import TrainConfig as TrainConfig
from transferfn.training.fit import evaluate as evaluate
from transferfn.training.fit import fit as fit
from transferfn.training.fit import load_model as load_model
from transferfn.training.loader import Loader as Loader
from transferfn.training.recipes import RECIPES as RECIPES
from transferfn.training.run import Result as Result
from transferfn.training.run import RunError as RunError
