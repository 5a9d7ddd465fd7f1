"""Speech Commands: which of 35 words is said, from one second of raw sound."""

from __future__ import annotations

import wave
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedReader, BytesIO
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from transferfn.tasks._published import Source, find, tar_files
from transferfn.tasks.cache import fingerprint, prepare
from transferfn.tasks.dataset import Signature, Splits
from transferfn.tasks.signals import SignalSequences

RATE = 16_000
"""Samples a second, and of a clip."""

# fmt: off
WORDS = (
    "backward", "bed", "bird", "cat", "dog", "down", "eight", "five", "follow", "forward", "four", "go", "happy",
    "house", "learn", "left", "marvin", "nine", "no", "off", "on", "one", "right", "seven", "sheila", "six", "stop",
    "three", "tree", "two", "up", "visual", "wow", "yes", "zero",
)
# fmt: on
"""The classes, in order."""

_ARCHIVE = "speech_commands_v0.02.tar.gz"
_LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}
_SOURCE = Source(
    task="Speech Commands",
    expected=(
        f"expected {_ARCHIVE} from https://storage.googleapis.com/download.tensorflow.org/data/{_ARCHIVE}, or a "
        f"folder with what is in it: {_LISTS['validation']}, {_LISTS['test']} and a folder of clips for each word"
    ),
    sizes={"train": 84_843, "validation": 9_981, "test": 11_005},
    digests={_ARCHIVE: "sha256:af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58"},
)


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeechCommandsConfig:
    """Speech Commands, version 0.02: clips of 16,000 samples at 16 kHz, and one of 35 words.

    Shorter clips are filled with zeros at the end. The split is that of the lists in the archive, as in the loaders of
    S4 and RTF with all classes: no speaker is in two parts. (Their loader for ten classes draws its own 70/15/15 %;
    the copy on Hugging Face has another test set and is not read.)
    All samples are divided by one number, the root mean square of the training samples; the loader of S4 instead
    shifts and scales each of the 16,000 positions by a mean and a deviation of its own.

    Source:
        Warden 2018, arXiv:1804.03209 (the data); state-spaces/s4, src/dataloaders/datasets/sc.py.

    Example:
        >>> config = SpeechCommandsConfig(path=Path("speech_commands_v0.02.tar.gz"))
        >>> config.signature
        Signature(length=16000, outputs=35, target='class', channels=1, vocabulary=None)
        >>> config.load().train.gather([0, 1]).inputs.shape  # doctest: +SKIP
        torch.Size([2, 16000, 1])
    """

    path: Path | None = None
    """The archive speech_commands_v0.02.tar.gz, a folder with its content, or a folder with the archive."""

    published: bool = True
    """Insist on the published checksum and number of clips; False takes what is there, such as a part of it."""

    @property
    def signature(self) -> Signature:
        """One channel of one second, and a class of 35."""
        return Signature(length=RATE, channels=1, outputs=len(WORDS))

    def load(self) -> Splits:
        """Read the clips, the first time into the cache (3.4 GB).

        Raises:
            DataError: if a file is missing, damaged or not what it should be.
        """
        place = _find(self.path)
        files = _folder_files(place) if place.is_dir() else [place]
        key = {"published": self.published, "files": fingerprint(files)}
        prepared = prepare("speech-commands", key, lambda folder: self._write(place, folder))
        clips, labels, level = (prepared[name] for name in ("clips", "labels", "level"))
        return Splits(
            *(SignalSequences(clips, labels, rows=prepared[f"{split}-rows"], std=level) for split in _SOURCE.sizes)
        )

    def _write(self, place: Path, folder: Path) -> None:
        if self.published and place.is_file():
            _SOURCE.verify(place)
        with _SOURCE.reading(place):
            names, lists = _contents(place)
        unlisted = {split: sorted(listed - set(names)) for split, listed in lists.items()}
        for split, missing in unlisted.items():
            if missing and self.published:
                raise _SOURCE.damaged(place, f"holds no {missing[0]}, which {_LISTS[split]} names: fetch it again")
        rows = {split: [row for row, name in enumerate(names) if name in listed] for split, listed in lists.items()}
        held = {*rows["validation"], *rows["test"]}
        rows["train"] = [row for row in range(len(names)) if row not in held]
        if self.published:
            _SOURCE.check_sizes(place, {split: len(rows[split]) for split in _SOURCE.sizes})
        for split in _SOURCE.sizes:
            if not rows[split]:
                raise _SOURCE.damaged(place, f"holds no {split} clip")
            np.save(folder / f"{split}-rows.npy", np.asarray(rows[split], np.int64))
        np.save(folder / "labels.npy", np.asarray([WORDS.index(PurePosixPath(name).parts[-2]) for name in names]))
        clips = np.lib.format.open_memmap(folder / "clips.npy", mode="w+", dtype=np.int16, shape=(len(names), RATE))
        numbers = {name: row for row, name in enumerate(names)}
        training, power = set(rows["train"]), 0.0
        with _SOURCE.reading(place):
            for name, file in _files(place):
                if name in numbers:
                    clip = _read_clip(place, name, file)
                    clips[numbers[name], : len(clip)] = clip
                    if numbers[name] in training:
                        power += float(np.square(clip, dtype=np.float64).sum())
        clips.flush()
        level = np.sqrt(power / (len(training) * RATE))
        if level == 0:
            raise _SOURCE.damaged(place, "holds silence alone")
        np.save(folder / "level.npy", level)


def _find(path: Path | None) -> Path:
    if archive := find(path, (_ARCHIVE,)):
        return archive
    if path is not None and path.is_dir():
        for folder in (path, path / "speech_commands_v0.02", path / "SpeechCommands" / "speech_commands_v0.02"):
            lists = [folder / name for name in _LISTS.values()]
            if present := [file for file in lists if file.is_file()]:
                if missing := [file.name for file in lists if file not in present]:
                    raise _SOURCE.damaged(folder, f"holds {present[0].name} but not {missing[0]}")
                return folder
    raise _SOURCE.nothing_at(path)


def _wanted(name: str) -> bool:
    path = PurePosixPath(name)
    return path.name in _LISTS.values() or (path.suffix == ".wav" and path.parent.name in WORDS)


def _files(place: Path) -> Iterator[tuple[str, BufferedReader]]:
    """Yield the lists by their name and the clips as ``word/file.wav``, as the lists name them."""
    if place.is_file():
        for name, file in tar_files(place, _wanted):
            yield _short(name), file
        return
    for path in tqdm(_folder_files(place), desc="reading Speech Commands", disable=None):
        with path.open("rb") as file:
            yield _short(path.as_posix()), file


def _folder_files(folder: Path) -> list[Path]:
    """Return the lists and the clips of a folder, sorted by word."""
    clips = (path for word in WORDS for path in sorted((folder / word).glob("*.wav")))
    return [*(folder / name for name in _LISTS.values()), *clips]


def _short(name: str) -> str:
    path = PurePosixPath(name)
    return path.name if path.name in _LISTS.values() else f"{path.parent.name}/{path.name}"


def _contents(place: Path) -> tuple[list[str], dict[str, set[str]]]:
    """Return the names of all clips, sorted, and those of the clips that are not for training."""
    names: list[str] = []
    lists: dict[str, set[str]] = {}
    splits = {name: split for split, name in _LISTS.items()}
    for name, file in _files(place):
        if name in splits:
            lists[splits[name]] = set(file.read().decode().split())
        else:
            names.append(name)
    for split, name in _LISTS.items():
        if split not in lists:
            raise _SOURCE.damaged(place, f"holds no {name}, which tells the parts apart")
    return sorted(names), lists


def _read_clip(place: Path, name: str, file: BufferedReader) -> NDArray[np.int16]:
    try:
        with wave.open(BytesIO(file.read())) as sound:
            found = (sound.getframerate(), sound.getsampwidth(), sound.getnchannels())
            count, data = sound.getnframes(), sound.readframes(RATE + 1)
    except (wave.Error, EOFError) as error:
        raise _SOURCE.damaged(
            place, f"{name} is no sound ({str(error) or type(error).__name__}), fetch it again"
        ) from None
    if found != (RATE, 2, 1):
        rate, width, channels = found
        raise _SOURCE.damaged(
            place,
            f"{name} has {rate} samples a second of {8 * width} bits on {channels} channels, expected {RATE}, 16, 1",
        )
    if count > RATE or len(data) != 2 * count:
        raise _SOURCE.damaged(
            place, f"{name} has {len(data) // 2} samples, its header says {count}; expected at most {RATE}"
        )
    return np.frombuffer(data, np.dtype("<i2")).astype(np.int16)
