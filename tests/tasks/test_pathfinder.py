from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from transferfn.tasks import DataError, PathfinderConfig, Task, _pathfinder_files
from transferfn.tasks.pathfinder import Scene, scene
from transferfn.tasks.signals import SignalSequences

SMALL = PathfinderConfig(train=200, validation=20, test=20)
# Enough to notice a difference; larger pictures take longer.
COUNTS = {32: 1000, 64: 100, 128: 100}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _use_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFERFN_CACHE", str(cache))


@pytest.fixture(scope="module", params=COUNTS)
def scenes(request: pytest.FixtureRequest) -> list[Scene]:
    config = PathfinderConfig(side=request.param)
    return [scene(config, "train", index) for index in range(COUNTS[request.param])]


def parts(config: PathfinderConfig) -> list[SignalSequences]:
    return [part for part in config.load() if isinstance(part, SignalSequences)]


def joined(drawn: Scene) -> NDArray[np.int64]:
    """Number the paths anew, from the dashes alone: two follow each other if, made longer by a margin, they meet."""
    from scipy.sparse.csgraph import connected_components

    along = drawn.dashes[:, 1] - drawn.dashes[:, 0]
    along = along / np.linalg.norm(along, axis=1, keepdims=True) * drawn.margin
    begins, ends = drawn.dashes[:, 0] - along, drawn.dashes[:, 1] + along
    meets = np.linalg.norm(ends[:, None] - begins[None], axis=-1) < 1e-6
    return connected_components(meets, directed=False)[1]


def test_labels_are_right(scenes: list[Scene]) -> None:
    for index, drawn in enumerate(scenes[:100]):
        component = joined(drawn)
        starts = np.linalg.norm(drawn.dashes[:, 0] - drawn.dots[0], axis=1) < 1e-9
        ends = np.linalg.norm(drawn.dashes[:, 1] - drawn.dots[1], axis=1) < 1e-9
        assert starts.sum() == ends.sum() == 1
        assert drawn.label == index % 2 == int(component[starts][0] == component[ends][0])
        sizes = np.bincount(component)
        assert sorted(sizes[sizes > 4]) == [14, 14]
        assert {component[starts][0], component[ends][0]} <= set(np.flatnonzero(sizes == 14))
        assert len({tuple(pair) for pair in zip(component, drawn.paths, strict=True)}) == len(set(component))


def test_paths_keep_clear_of_each_other_and_of_the_edge(scenes: list[Scene]) -> None:
    side = len(scenes[0].image)
    for drawn in scenes[:10]:
        points = drawn.dashes[:, :1] + np.linspace(0, 1, 21)[:, None] * (drawn.dashes[:, 1:] - drawn.dashes[:, :1])
        assert points.min() > 1
        assert points.max() < side - 2
        for path in set(drawn.paths):
            mine, others = points[drawn.paths == path].reshape(-1, 2), points[drawn.paths != path].reshape(-1, 2)
            # Points of a dash are at most 0.25 apart.
            assert np.linalg.norm(mine[:, None] - others[None], axis=-1).min() > 2 * drawn.margin - 0.5


def test_the_picture_shows_dashes_and_dots_and_nothing_else(scenes: list[Scene]) -> None:
    side = len(scenes[0].image)
    radius = {32: 1.5, 64: 2.5, 128: 3.0}[side]
    grid = np.stack(np.meshgrid(np.arange(side), np.arange(side)), axis=-1).astype(float)
    for drawn in scenes[:2]:
        points = drawn.dashes[:, :1] + np.linspace(0, 1, 11)[:, None] * (drawn.dashes[:, 1:] - drawn.dashes[:, :1])
        far = np.linalg.norm(grid[:, :, None] - points.reshape(-1, 2), axis=-1).min(-1) > 2
        off = np.linalg.norm(grid[:, :, None] - drawn.dots, axis=-1).min(-1) > radius + 0.5
        assert not drawn.image[far & off].any()
        assert (drawn.image[np.linalg.norm(grid[:, :, None] - drawn.dots, axis=-1).min(-1) < radius - 0.5] == 255).all()
        middle = np.rint(drawn.dashes.mean(1)).astype(int)
        around = [drawn.image[y - 1 : y + 2, x - 1 : x + 2].max() for x, y in middle]
        assert min(around) > 60  # dashes can be seen ...
        dashed = drawn.image[~far & off]
        assert (dashed < 60).mean() > 0.2  # ... and the gaps between them


def test_nothing_but_the_paths_tells_the_label(scenes: list[Scene]) -> None:
    from scipy.stats import ks_2samp

    label = np.array([drawn.label for drawn in scenes])
    assert label.mean() == 0.5
    cues = {
        "distance": [np.linalg.norm(drawn.dots[0] - drawn.dots[1]) for drawn in scenes],
        "ink": [drawn.image.mean() for drawn in scenes],
        "dashes": [len(drawn.dashes) for drawn in scenes],
        "first dot": [drawn.dots[0, 0] for drawn in scenes],
        "second dot": [drawn.dots[1, 0] for drawn in scenes],
        "second dot from the middle": [np.abs(drawn.dots[1] - len(drawn.image) / 2).max() for drawn in scenes],
    }
    for cue, values in cues.items():
        values = np.array(values)
        assert ks_2samp(values[label == 0], values[label == 1]).pvalue > 1e-3, cue


def test_the_pictures_never_change() -> None:
    # Results are comparable only as long as everybody has the same pictures.
    digests = {
        side: [
            hashlib.sha256(
                b"".join(scene(PathfinderConfig(side=side), split, index).image.tobytes() for index in range(4))
            ).hexdigest()[:16]
            for split in ("train", "validation", "test")
        ]
        for side in COUNTS
    }
    assert digests == {
        32: ["bbe688d7daa10a73", "90a9f53d56763c8a", "9d02dad6393636a8"],
        64: ["8b33d02c9d03574c", "ae86bd4c4abdfae2", "6f5301d9591dbd8d"],
        128: ["858f398b49cc4b11", "00c3f2d3a763708f", "bab2cd638181c4ed"],
    }


def test_pictures_are_kept_with_their_labels_whatever_the_threads() -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        train, validation, test = parts(SMALL)
    finally:
        torch.set_num_threads(threads)
    for name, part, count in (("train", train, 200), ("validation", validation, 20), ("test", test, 20)):
        assert len(part) == count
        assert np.bincount(part.labels).tolist() == [count // 2, count // 2]
        for index in (0, 1, count - 1):
            drawn = scene(SMALL, name, index)
            np.testing.assert_array_equal(part.values[index].reshape(32, 32), drawn.image)
            assert part.labels[index] == drawn.label
    assert isinstance(train.values, np.memmap)
    assert len({row.tobytes() for part in (train, validation, test) for row in part.values}) == 240
    other = scene(PathfinderConfig(seed=1), "train", 0)
    assert not np.array_equal(other.image, scene(SMALL, "train", 0).image)


def test_batches_are_signals_between_minus_one_and_one() -> None:
    assert isinstance(SMALL, Task)
    assert (SMALL.signature.length, SMALL.signature.channels, SMALL.signature.outputs) == (1024, 1, 2)
    train = SMALL.load().train
    batch = train.gather([3, 0])
    assert batch.inputs.shape == (2, 1024, 1)
    assert batch.inputs.dtype == torch.float32
    assert (batch.inputs.min(), batch.inputs.max()) == (-1, 1)
    assert batch.targets.tolist() == [1, 0]
    drawn = torch.from_numpy(scene(SMALL, "train", 3).image.astype(np.float32))
    torch.testing.assert_close(batch.inputs[0].reshape(32, 32), drawn / 127.5 - 1, rtol=0, atol=0)


@pytest.mark.parametrize("length", [6, 9])
def test_shorter_paths_have_more_distractors(length: int) -> None:
    config = PathfinderConfig(contour_length=length)
    paths = [scene(config, "train", index).paths for index in range(50)]
    assert all((np.bincount(path)[:2] == length).all() for path in paths)
    assert all((np.unique(path[path > 1], return_counts=True)[1] == length // 3).all() for path in paths)
    assert max(path.max() - 1 for path in paths) == 20 // (length // 3)


def test_straighter_paths_turn_less() -> None:
    def turn(continuity: float) -> float:
        config = PathfinderConfig(contour_length=4, distractors=0, continuity=continuity)
        turns = []
        for index in range(100):
            drawn = scene(config, "train", index)
            for path in (0, 1):
                way = np.diff(drawn.dashes[drawn.paths == path], axis=1)[:, 0]
                angle = np.rad2deg(np.arctan2(way[:, 1], way[:, 0]))
                turns.append(np.abs((np.diff(angle) + 180) % 360 - 180))
        assert np.max(turns) <= 90 / continuity + 1e-6
        return float(np.mean(turns))

    assert turn(4.0) < turn(2.0) / 1.5 < turn(1.0) / 2


def test_without_validation_there_is_none() -> None:
    assert PathfinderConfig(train=2, validation=0, test=2).load().validation is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seed": -1}, "seed"),
        ({"side": 48}, "one of 32, 64, 128, got 48"),
        ({"train": 3}, "train=3"),
        ({"validation": -2}, "validation=-2"),
        ({"test": 0}, "test=0"),
        ({"contour_length": 1}, "contour_length"),
        ({"distractors": -1}, "distractors"),
        ({"continuity": 0.1}, "continuity"),
    ],
)
def test_senseless_values_are_refused(wrong: dict[str, int | float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PathfinderConfig(**wrong)


def test_paths_that_find_no_room_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transferfn.tasks.pathfinder._TRIALS", 100)
    with pytest.raises(DataError, match="two paths of 60 dashes find no room in 32 x 32 pixels"):
        scene(PathfinderConfig(contour_length=60), "train", 0)


# ---------------------------------------------------------------------------------------------------- files


def write(folder: Path, *, level: str = "curv_contour_length_14", side: int = 32, lists: int = 11) -> Path:
    """Write pictures as published, two a list, each of one grey of its own."""
    for batch in range(lists):
        images = folder / level / "imgs" / str(batch)
        images.mkdir(parents=True)
        (folder / level / "metadata").mkdir(exist_ok=True)
        lines = []
        for number in range(2):
            picture = np.full((side, side), 10 * batch + number, np.uint8)
            Image.fromarray(picture).save(images / f"sample_{number}.png")
            lines.append(f"imgs/{batch} sample_{number}.png {number} {(batch + number) % 2} 1.0 14 4 2 0.5 1 1")
        (folder / level / "metadata" / f"{batch}.npy").write_text("\n".join(lines) + "\n")
    return folder


def test_published_pictures_are_read_and_split_as_by_the_official_loader(tmp_path: Path) -> None:
    found = parts(PathfinderConfig(path=write(tmp_path / "pathfinder32"), published=False))
    assert [len(part) for part in found] == [18, 2, 2]
    # torch's random_split with seed 42, on the pictures in the order of the lists: 0, 1, ..., 10, not 0, 1, 10, 2.
    rows = [(10 * batch + number, (batch + number) % 2) for batch in range(11) for number in range(2)]
    split = torch.utils.data.random_split(range(22), [18, 2, 2], generator=torch.Generator().manual_seed(42))
    for part, expected in zip(found, split, strict=True):
        assert [int(image[0]) for image in part.values] == [rows[row][0] for row in expected]
        assert part.labels.tolist() == [rows[row][1] for row in expected]
        assert (part.values == part.values[:, :1]).all()


def test_numbers_of_what_is_drawn_are_refused_beside_folders(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"so that data.train=500, data.continuity=2.0 would do nothing: leave out either"
    ):
        PathfinderConfig(path=write(tmp_path / "pathfinder32"), train=500, continuity=2.0).load()


def test_the_empty_picture_of_the_easy_level_is_left_out(tmp_path: Path) -> None:
    folder = write(tmp_path / "pathfinder32", level="curv_baseline")
    empty = folder / "curv_baseline" / "imgs" / "0" / "sample_172.png"
    empty.write_bytes(b"")
    with (folder / "curv_baseline" / "metadata" / "0.npy").open("a") as file:
        file.write("imgs/0 sample_172.png 172 1 1.0 6 2 2 0.5 1 1\n")
    assert sum(map(len, parts(PathfinderConfig(path=folder, contour_length=6)))) == 22


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("imgs/3/sample_1.png", None, r"sample_1.png cannot be read"),
        ("imgs/3/sample_1.png", b"", r"imgs/3/sample_1.png cannot be read"),
        ("imgs/3/sample_1.png", "cut", r"imgs/3/sample_1.png cannot be read"),
        ("metadata/4.npy", b"imgs/4 sample_0.png 0 2 1.0\n", r"4.npy, line 1: .*label 0 or 1"),
        ("metadata/4.npy", b"imgs/4 sample_0.png\n", r"4.npy, line 1: expected a folder"),
        ("metadata/4.npy", b"\x93NUMPY", r"4.npy is no list of pictures in text"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, file: str, content: bytes | str | None, message: str) -> None:
    path = write(tmp_path / "pathfinder32") / "curv_contour_length_14" / file
    whole = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else whole[: len(whole) // 2])
    with pytest.raises(DataError, match=message):
        PathfinderConfig(path=tmp_path / "pathfinder32", published=False).load()


def test_pictures_of_another_size_and_folders_without_lists_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"sample_.\.png has 64 x 64 pixels, expected 32 x 32"):
        PathfinderConfig(path=write(tmp_path / "pathfinder64", side=64), published=False).load()
    with pytest.raises(DataError, match=r"curv_contour_length_9.metadata holds no list"):
        PathfinderConfig(path=tmp_path / "pathfinder64", side=64, contour_length=9).load()
    with pytest.raises(DataError, match="lists 8 pictures, too few"):
        PathfinderConfig(path=write(tmp_path / "few", lists=4)).load()


def test_pictures_that_are_not_all_there_are_refused_before_any_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "pathfinder32")
    monkeypatch.setattr(_pathfinder_files, "_read_png", None)
    with pytest.raises(DataError, match=r"holds 18 train, 2 validation, 2 test, published are 160,000 train, "):
        PathfinderConfig(path=folder).load()
    monkeypatch.undo()
    sizes = {"train": 18, "validation": 2, "test": 2}
    monkeypatch.setattr(_pathfinder_files, "_SOURCE", replace(_pathfinder_files._SOURCE, sizes=sizes))
    PathfinderConfig(path=folder).load()


def test_a_folder_that_is_not_there_is_called_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pathfinder32 is missing\. The published pictures"):
        PathfinderConfig(path=tmp_path / "pathfinder32").load()
