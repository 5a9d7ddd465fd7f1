"""Tasks: one a file, with its configuration, data, split and batches."""

from __future__ import annotations

from transferfn.tasks.copying import CopyingConfig as CopyingConfig
from transferfn.tasks.dataset import IGNORED as IGNORED
from transferfn.tasks.dataset import Batch as Batch
from transferfn.tasks.dataset import DataError as DataError
from transferfn.tasks.dataset import Dataset as Dataset
from transferfn.tasks.dataset import Signature as Signature
from transferfn.tasks.dataset import Spelled as Spelled
from transferfn.tasks.dataset import Splits as Splits
from transferfn.tasks.dataset import Target as Target
from transferfn.tasks.dataset import Task as Task
from transferfn.tasks.delay import DelayConfig as DelayConfig
from transferfn.tasks.digits import DigitsConfig as DigitsConfig
from transferfn.tasks.excerpts import ExcerptsConfig as ExcerptsConfig
from transferfn.tasks.image import ImageConfig as ImageConfig
from transferfn.tasks.listops import ListopsConfig as ListopsConfig
from transferfn.tasks.pathfinder import PathfinderConfig as PathfinderConfig
from transferfn.tasks.retrieval import RetrievalConfig as RetrievalConfig
from transferfn.tasks.series import SeriesConfig as SeriesConfig
from transferfn.tasks.smnist import SmnistConfig as SmnistConfig
from transferfn.tasks.smnist import load_smnist as load_smnist
from transferfn.tasks.speech_commands import SpeechCommandsConfig as SpeechCommandsConfig
from transferfn.tasks.text import TextConfig as TextConfig
from transferfn.tasks.text_corpus import TextCorpusConfig as TextCorpusConfig
