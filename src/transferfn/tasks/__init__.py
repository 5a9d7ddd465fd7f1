"""Tasks: one a file, with its configuration, data, split and batches."""

from __future__ import annotations

from transferfn.tasks.dataset import Batch as Batch
from transferfn.tasks.dataset import DataError as DataError
from transferfn.tasks.dataset import Dataset as Dataset
from transferfn.tasks.smnist import SmnistConfig as SmnistConfig
from transferfn.tasks.smnist import load_smnist as load_smnist
