from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tasks.archives import DAMAGES, as_published, damage, wav, write_files, write_tar
from transferfn.tasks import DataError, SpeechCommandsConfig, speech_commands
from transferfn.tasks.speech_commands import WORDS

SPLITS = {
    "train": ["bed/a_nohash_0.wav", "zero/a_nohash_1.wav", "bed/a_nohash_1.wav", "yes/c_nohash_0.wav"],
    "validation": ["yes/d_nohash_0.wav", "bed/d_nohash_0.wav"],
    "test": ["zero/e_nohash_0.wav"],
}
CLIPS = [name for names in SPLITS.values() for name in names]


def sound(name: str) -> NDArray[np.int16]:
    draw = np.random.default_rng(CLIPS.index(name))
    return draw.integers(-3000, 3000, 16_000 - 1000 * (CLIPS.index(name) % 3), dtype=np.int16)


def files() -> dict[str, bytes]:
    return {
        "./README.md": b"about",
        "./_background_noise_/pink_noise.wav": wav(np.ones(90_000, np.int16)),
        **{f"./{name}": wav(sound(name)) for name in CLIPS},
        "./testing_list.txt": "".join(f"{name}\n" for name in SPLITS["test"]).encode(),
        "./validation_list.txt": "".join(f"{name}\n" for name in SPLITS["validation"]).encode(),
    }


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFERFN_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_tar(tmp_path / "speech_commands_v0.02.tar.gz", files())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_files(tmp_path / "extracted", files())


def refusal(path: Path | None) -> str:
    with pytest.raises(DataError) as caught:
        SpeechCommandsConfig(path=path, published=False).load()
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("form", ["archive", "beside", "folder", "below"])
def test_clips_are_split_by_the_lists_filled_and_scaled(archive: Path, tmp_path: Path, form: str) -> None:
    below = tmp_path / "SpeechCommands" / "speech_commands_v0.02"  # where torchaudio extracts it
    places = {"archive": archive, "beside": tmp_path, "folder": tmp_path / "extracted", "below": below.parent.parent}
    if form in ("folder", "below"):
        write_files(below if form == "below" else tmp_path / "extracted", files())
        archive.unlink()
    splits = SpeechCommandsConfig(path=places[form], published=False).load()
    power = sum(float(np.square(sound(name).astype(np.float64)).sum()) for name in SPLITS["train"])
    level = (power / (len(SPLITS["train"]) * 16_000)) ** 0.5
    for dataset, names in zip(splits, SPLITS.values(), strict=True):
        assert dataset is not None
        batch = dataset.gather(range(len(dataset)))
        assert batch.inputs.shape == (len(names), 16_000, 1)
        for inputs, target, name in zip(batch.inputs, batch.targets, sorted(names), strict=True):
            samples = sound(name)
            expected = torch.from_numpy(samples / level).float()
            torch.testing.assert_close(inputs[: len(samples), 0], expected, rtol=1e-6, atol=0)
            assert not inputs[len(samples) :].any()
            assert WORDS[target] == name.split("/")[0]


def test_the_words_are_those_published() -> None:
    assert len(WORDS) == 35
    assert list(WORDS) == sorted(set(WORDS))
    assert sum(speech_commands._SOURCE.sizes.values()) == 105_829


def test_clips_are_mapped_from_the_cache_as_they_were_recorded(archive: Path) -> None:
    clips = SpeechCommandsConfig(path=archive, published=False).load().train.values
    assert isinstance(clips, np.memmap)
    assert clips.dtype == np.int16


def test_the_published_archive_is_verified(archive: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = speech_commands._SOURCE
    with pytest.raises(DataError, match="af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58"):
        SpeechCommandsConfig(path=archive).load()
    with pytest.raises(DataError, match="holds 4 train, 2 validation, 1 test, published are 84,843 train"):
        SpeechCommandsConfig(path=folder).load()
    monkeypatch.setattr(speech_commands, "_SOURCE", as_published(source, archive, train=4, validation=2, test=1))
    assert [len(part) for part in SpeechCommandsConfig(path=archive).load() if part is not None] == [4, 2, 1]
    (folder / SPLITS["test"][0]).unlink()
    with pytest.raises(DataError, match=r"holds no zero/e_nohash_0\.wav, which testing_list\.txt names"):
        SpeechCommandsConfig(path=folder).load()


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_archive(archive: Path, how: str) -> None:
    damage(archive, how)
    message = refusal(archive)
    assert f"{archive}: cannot be read" in message
    assert "https://storage.googleapis.com/download.tensorflow.org/data/" in message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (wav(np.ones(8000, np.int16), rate=8000), "has 8000 samples a second of 16 bits on 1 channels, expected 16000"),
        (wav(np.ones(8000, np.int16), channels=2), "16 bits on 2 channels"),
        (wav(np.ones(16_001, np.int16)), "has 16001 samples, its header says 16001; expected at most 16000"),
        (wav(np.ones(100, np.int16))[:-60], "has 70 samples, its header says 100"),
        (b"RIFF" + struct.pack("<I", 4) + b"WAVE", "is no sound"),
        (b"OggS and more", "is no sound"),
        (b"", "is no sound"),
    ],
    ids=["rate", "stereo", "long", "cut", "header", "ogg", "empty"],
)
def test_a_clip_of_something_else(folder: Path, content: bytes, message: str) -> None:
    (folder / "bed" / "a_nohash_1.wav").write_bytes(content)
    found = refusal(folder)
    assert f"{folder}: bed/a_nohash_1.wav " in found
    assert message in found


def test_a_missing_list(folder: Path, tmp_path: Path) -> None:
    (folder / "testing_list.txt").unlink()
    assert f"{folder}: holds validation_list.txt but not testing_list.txt" in refusal(folder)
    few = {name: content for name, content in files().items() if "validation" not in name}
    archive = write_tar(tmp_path / "speech_commands_v0.02.tar.gz", few)
    assert f"{archive}: holds no validation_list.txt" in refusal(archive)


def test_silence_and_nothing(folder: Path, tmp_path: Path) -> None:
    for name in SPLITS["train"]:
        (folder / name).write_bytes(wav(np.zeros(16_000, np.int16)))
    assert "holds silence alone" in refusal(folder)
    for name in SPLITS["train"]:
        (folder / name).unlink()
    assert "holds no train clip" in refusal(folder)
    assert "--data.path" in refusal(None)
    assert "nowhere is missing" in refusal(tmp_path / "nowhere")
    assert "holds no Speech Commands" in refusal(folder / "bed")


def test_an_edited_clip_of_a_folder_is_read_anew(folder: Path) -> None:
    """Though neither lists nor folders have changed: no file came or went."""
    config = SpeechCommandsConfig(path=folder, published=False)
    assert config.load().test.gather([0]).inputs.any()
    (folder / SPLITS["test"][0]).write_bytes(wav(np.zeros(16_000, np.int16)))
    assert not config.load().test.gather([0]).inputs.any()
