from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from tasks.archives import DAMAGES, as_published, damage, python2_pickle, write_files, write_parquet, write_tar
from transferfn.tasks import DataError, ImageConfig, image
from transferfn.tasks.image import to_grey

TRAIN = [f"data_batch_{number}" for number in range(1, 6)]
BATCHES = [*TRAIN, "test_batch"]
COUNT = 8  # pictures of a batch


def pictures(batch: str) -> tuple[NDArray[np.uint8], list[int]]:
    """Pictures (COUNT, 32, 32, 3) and their classes."""
    draw = np.random.default_rng(BATCHES.index(batch))
    return draw.integers(0, 256, (COUNT, 32, 32, 3), dtype=np.uint8), draw.integers(0, 10, COUNT).tolist()


def planes(batch: str) -> NDArray[np.uint8]:
    return pictures(batch)[0].transpose(0, 3, 1, 2).reshape(COUNT, -1)


def pickled() -> dict[str, bytes]:
    found = {f"cifar-10-batches-py/{name}": python2_pickle(planes(name), pictures(name)[1]) for name in BATCHES}
    return {"cifar-10-batches-py/readme.html": b"about", **found, "cifar-10-batches-py/batches.meta": b"\x80\x02}."}


def binary() -> dict[str, bytes]:
    found = {}
    for name in BATCHES:
        labels = np.asarray(pictures(name)[1], np.uint8)
        rows = np.concatenate([labels[:, None], planes(name)], axis=1)
        found[f"cifar-10-batches-bin/{name}.bin"] = rows.tobytes()
    return {"cifar-10-batches-bin/batches.meta.txt": b"airplane\n", **found}


def png(picture: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def write_both_parquet(folder: Path) -> Path:
    for split, names in (("train", TRAIN), ("test", ["test_batch"])):
        images = [picture for name in names for picture in pictures(name)[0]]
        labels = [label for name in names for label in pictures(name)[1]]
        encoded = [{"bytes": png(picture), "path": None} for picture in images]
        write_parquet(folder / f"{split}-00000-of-00001.parquet", {"img": encoded, "label": labels})
    return folder


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFERFN_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return write_tar(tmp_path / "cifar-10-python.tar.gz", pickled())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_files(tmp_path, binary()) / "cifar-10-batches-bin"


def refusal(config: ImageConfig) -> str:
    with pytest.raises(DataError) as caught:
        config.load()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_every_form_gives_the_same_pictures(archive: Path, folder: Path, tmp_path: Path) -> None:
    packed = write_tar(tmp_path / "other" / "cifar-10-binary.tar.gz", binary())
    unpacked = write_files(tmp_path / "third", pickled())
    parquet = write_both_parquet(tmp_path / "hub" / "plain_text")
    places = [archive, packed, packed.parent, folder, unpacked, unpacked / "cifar-10-batches-py", parquet.parent]
    images = np.concatenate([pictures(name)[0] for name in TRAIN])
    for path in places:
        config = ImageConfig(path=path, colour=True, validation=0.0, published=False)
        train, validation, test = config.load()
        assert validation is None
        assert (len(train), len(test)) == (5 * COUNT, COUNT)
        order = train.rows
        assert sorted(order.tolist()) == list(range(5 * COUNT))
        np.testing.assert_array_equal(train.values, images.reshape(-1, 1024, 3))
        np.testing.assert_array_equal(test.values, pictures("test_batch")[0].reshape(-1, 1024, 3))
        assert test.labels.tolist() == pictures("test_batch")[1]
        assert train.labels.tolist() == [label for name in TRAIN for label in pictures(name)[1]]


def test_grey_is_that_of_pillow() -> None:
    ramp = np.arange(0, 256, 5, dtype=np.uint8)
    colours = np.stack(np.meshgrid(ramp, ramp, ramp, indexing="ij"), axis=-1).reshape(len(ramp), -1, 3)
    np.testing.assert_array_equal(to_grey(colours), np.asarray(Image.fromarray(colours).convert("L")))


def test_grey_pixels_are_scaled_as_in_the_published_loader(folder: Path) -> None:
    test = ImageConfig(path=folder, published=False).load().test
    batch = test.gather([5, 2])
    assert batch.inputs.shape == (2, 1024, 1)
    assert batch.lengths is None
    assert batch.targets.tolist() == [pictures("test_batch")[1][row] for row in (5, 2)]
    grey = np.asarray(Image.fromarray(pictures("test_batch")[0][2]).convert("L"), np.float64).reshape(-1)
    expected = torch.from_numpy((grey / 255 - 122.6 / 255) / (61.0 / 255)).float()
    torch.testing.assert_close(batch.inputs[1, :, 0], expected, rtol=0, atol=2e-6)


def test_colours_are_scaled_as_in_the_published_loader(folder: Path) -> None:
    config = ImageConfig(path=folder, colour=True, published=False)
    assert config.signature.channels == 3
    inputs = config.load().test.gather([3]).inputs
    pixels = torch.from_numpy(pictures("test_batch")[0][3].reshape(-1, 3)) / 255
    mean, std = torch.tensor([0.4914, 0.4822, 0.4465]), torch.tensor([0.247, 0.243, 0.261])
    torch.testing.assert_close(inputs[0], (pixels - mean) / std)


def test_permuted_pixels_keep_their_colours_and_one_order(folder: Path) -> None:
    plain = ImageConfig(path=folder, colour=True, published=False).load().test.gather([0, 1]).inputs
    permuted = ImageConfig(path=folder, colour=True, permuted=True, published=False).load().test.gather([0, 1]).inputs
    order = np.random.RandomState(92916).permutation(1024)
    torch.testing.assert_close(permuted, plain[:, order], rtol=0, atol=0)
    assert not torch.equal(permuted, plain)


def test_the_pictures_held_out_are_those_of_the_published_loader(folder: Path) -> None:
    train, validation, _ = ImageConfig(path=folder, validation=0.25, published=False).load()
    assert validation is not None
    generator = torch.Generator().manual_seed(42)
    kept, held = torch.utils.data.random_split(range(40), [30, 10], generator=generator)  # pyright: ignore
    assert train.gather(range(len(train))).targets.tolist() == [train.labels[row] for row in kept]
    assert validation.rows.tolist() == list(held)
    # The split is part of the task: a change would make results incomparable.
    published = torch.randperm(50_000, generator=torch.Generator().manual_seed(42))[45_000:]
    assert published[:4].tolist() == [17408, 40845, 3378, 22188]


def test_the_published_archive_is_verified(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = refusal(ImageConfig(path=archive))
    assert f"{archive}: MD5" in message
    assert "c58f30108f718f92721af3b95e74349a" in message
    monkeypatch.setattr(image, "SOURCE", as_published(image.SOURCE, archive, train=50_000, test=10_000))
    assert "holds 40 train, 8 test, published are 50,000 train, 10,000 test" in refusal(ImageConfig(path=archive))
    monkeypatch.setattr(image, "SOURCE", as_published(image.SOURCE, archive, train=40, test=8))
    assert [len(part) for part in ImageConfig(path=archive).load() if part is not None] == [36, 4, 8]


class Trap:
    """Runs when it is unpickled by a reader that trusts the file."""

    sprung = False

    def __reduce__(self) -> tuple:
        return (setattr, (Trap, "sprung", True))


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_can_run_nothing(archive: Path, protocol: int) -> None:
    evil = pickle.dumps({b"data": Trap(), b"labels": []}, protocol=protocol)
    write_tar(archive, {**pickled(), "cifar-10-batches-py/data_batch_3": evil})
    message = refusal(ImageConfig(path=archive, published=False))
    assert "data_batch_3 cannot be read as a batch" in message
    assert "which is no array" in message
    assert not Trap.sprung


@pytest.mark.parametrize(
    "batch",
    [
        python2_pickle(np.zeros((2, 3072), np.uint8), [1]),
        python2_pickle(np.zeros((1, 3071), np.uint8), [1]),
        pickle.dumps([1, 2]),
        pickle.dumps({b"data": 1, b"labels": [1]}),
    ],
    ids=["labels", "pixels", "list", "number"],
)
def test_a_batch_of_something_else(archive: Path, batch: bytes) -> None:
    write_tar(archive, {**pickled(), "cifar-10-batches-py/test_batch": batch})
    assert "test_batch is no batch of CIFAR-10" in refusal(ImageConfig(path=archive, published=False))


def test_classes_out_of_range(archive: Path) -> None:
    batch = python2_pickle(np.zeros((2, 3072), np.uint8), [3, 10])
    write_tar(archive, {**pickled(), "cifar-10-batches-py/test_batch": batch})
    message = refusal(ImageConfig(path=archive, published=False))
    assert "test_batch holds classes from 3 to 10, expected 0 to 9" in message


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_archive(archive: Path, how: str) -> None:
    damage(archive, how)
    message = refusal(ImageConfig(path=archive, published=False))
    assert f"{archive}: " in message
    assert "cannot be read" in message
    assert "https://www.cs.toronto.edu/~kriz/cifar.html" in message


def test_a_batch_that_is_cut(folder: Path) -> None:
    path = folder / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:-1])
    message = refusal(ImageConfig(path=folder, published=False))
    assert f"{path}: data_batch_2.bin has {3073 * COUNT - 1} bytes, expected some times 3073" in message


def test_parquet_files_that_do_not_fit(tmp_path: Path) -> None:
    config = ImageConfig(path=write_both_parquet(tmp_path), published=False)
    path = tmp_path / "train-00000-of-00001.parquet"
    write_parquet(path, {"image": [1], "label": [1]})
    assert f"{path}: has the columns image, label, not img" in refusal(config)
    write_parquet(path, {"img": [{"bytes": b"no picture"}], "label": [1]})
    assert f"{path}: the picture in row 0 cannot be decoded" in refusal(config)
    write_parquet(path, {"img": [{"bytes": png(np.zeros((8, 9, 3), np.uint8))}], "label": [1]})
    assert f"{path}: the picture in row 0 has 9 x 8 pixels" in refusal(config)
    write_parquet(path, {"img": [{"bytes": png(np.zeros((32, 32, 3), np.uint8))}], "label": [10]})
    assert f"{path}: row 0 has the class 10" in refusal(config)


def test_data_that_is_not_there(folder: Path, tmp_path: Path) -> None:
    assert "--data.path" in refusal(ImageConfig())
    assert "nowhere is missing" in refusal(ImageConfig(path=tmp_path / "nowhere"))
    (folder / "data_batch_4.bin").unlink()
    assert f"{folder}: holds some batches but not data_batch_4.bin" in refusal(ImageConfig(path=folder))
    archive = write_tar(tmp_path / "cifar-10-python.tar.gz", {"readme": b""})
    assert f"{archive}: holds no train pictures" in refusal(ImageConfig(path=archive, published=False))


def test_values_that_make_no_sense(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"0\.\.0\.5"):
        ImageConfig(validation=0.7)
    with pytest.raises(ValueError, match="2\\^63"):
        ImageConfig(seed=-1)
    assert "leaves none" in refusal(ImageConfig(path=folder, validation=1e-20, published=False))
