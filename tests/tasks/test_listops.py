from __future__ import annotations

import hashlib
import random
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from transferfn.tasks import DataError, ListopsConfig, Task, listops
from transferfn.tasks.listops import TOKENS, tokenize, value
from transferfn.tasks.sequences import TokenSequences

SMALL = ListopsConfig(train=600, validation=50, test=50, min_length=50, max_length=200)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _use_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFERFN_CACHE", str(cache))


def words(part: TokenSequences, row: int) -> list[str]:
    return [TOKENS[token] for token in part.tokens[part.starts[row] : part.starts[row + 1]]]


def evaluate(words: list[str]) -> int:
    """Written anew: read the expression from the left by recursion, with Python's own min, max, median and sum."""
    rest = iter(words)

    def node(word: str) -> int:
        if word.isdigit():
            return int(word)
        arguments = []
        while (inner := next(rest)) != "]":
            arguments.append(node(inner))
        assert 2 <= len(arguments) <= 10
        operations = {"[MIN": min, "[MAX": max, "[MED": statistics.median, "[SM": lambda digits: sum(digits) % 10}
        return int(operations[word](arguments))

    found = node(next(rest))
    assert next(rest, None) is None
    return found


def depth(words: list[str]) -> int:
    level = deepest = 1
    for word in words:
        deepest = max(deepest, level)
        level += {"[": 1, "]": -1}.get(word[0], 0)
    return deepest


def published(level: int, deepest: int, arguments: int) -> list[str]:
    """Draw as the published script's distribution is described, from Python's own generator."""
    if level == deepest or random.random() > 0.25:
        return [str(random.randrange(10))]
    inner = [published(level + 1, deepest, arguments) for _ in range(random.randint(2, arguments))]
    return [random.choice(["[MIN", "[MAX", "[MED", "[SM"]), *(word for node in inner for word in node), "]"]


def parts(config: ListopsConfig) -> list[TokenSequences]:
    return [part for part in config.load() if isinstance(part, TokenSequences)]


@pytest.mark.parametrize("config", [SMALL, ListopsConfig(train=8, validation=4, test=4)], ids=["small", "full-length"])
def test_labels_lengths_and_depths_are_right(config: ListopsConfig) -> None:
    train, validation, test = parts(config)
    assert [len(part) for part in (train, validation, test)] == [config.train, config.validation, config.test]
    for part in (train, validation, test):
        for row in range(len(part)):
            expression = words(part, row)
            assert evaluate(expression) == part.labels[row]
            assert config.min_length < len(expression) < config.max_length
            assert depth(expression) <= config.depth


def test_no_expression_occurs_twice() -> None:
    everything = [tuple(words(part, row)) for part in parts(SMALL) for row in range(len(part))]
    assert len(set(everything)) == len(everything)
    # Of single digits and three more tokens there are few, so that some are drawn more than once.
    few = ListopsConfig(train=90, validation=10, test=20, depth=2, arguments=2, min_length=0, max_length=5)
    everything = [tuple(words(part, row)) for part in parts(few) for row in range(len(part))]
    assert len(set(everything)) == len(everything) == 120


def test_lengths_values_and_operators_are_distributed_as_in_the_published_script() -> None:
    from scipy.stats import chi2_contingency, ks_2samp

    random.seed(0)
    config = ListopsConfig(train=2000, validation=0, test=1, depth=6, arguments=7, min_length=20, max_length=150)
    train = parts(config)[0]
    theirs: list[list[str]] = []
    while len(theirs) < 2000:
        if 20 < len(drawn := published(1, 6, 7)) < 150:
            theirs.append(drawn)
    ours = [words(train, row) for row in range(len(train))]
    assert ks_2samp([len(x) for x in ours], [len(x) for x in theirs]).pvalue > 1e-3
    assert ks_2samp([depth(x) for x in ours], [depth(x) for x in theirs]).pvalue > 1e-3
    values = [np.bincount([evaluate(x) for x in part], minlength=10) for part in (ours, theirs)]
    assert chi2_contingency(values).pvalue > 1e-3
    counts = [[sum(x.count(word) for x in part) for word in TOKENS[1:]] for part in (ours, theirs)]
    # Tokens of one expression hang together, so shares are compared by their size, not by a test of independence.
    shares = np.array(counts) / np.sum(counts, axis=1, keepdims=True)
    np.testing.assert_allclose(shares[0], shares[1], atol=0.005)


def test_the_expressions_never_change() -> None:
    # Results are comparable only as long as everybody has the same expressions.
    train, validation, test = parts(SMALL)
    digests = [hashlib.sha256(part.tokens.tobytes()).hexdigest()[:16] for part in (train, validation, test)]
    assert digests == ["66a3473bc4564ba6", "5b02ac5fa8c62b7e", "3475410910aee881"]
    full = parts(ListopsConfig(train=8, validation=4, test=4))[0]
    assert hashlib.sha256(full.tokens.tobytes()).hexdigest()[:16] == "c1a1792b116c50cf"


def test_a_sample_depends_neither_on_how_many_there_are_nor_on_threads() -> None:
    fewer = ListopsConfig(train=300, validation=20, test=20, min_length=50, max_length=200)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        for less, more in zip(parts(fewer), parts(SMALL), strict=True):
            np.testing.assert_array_equal(less.tokens, more.tokens[: len(less.tokens)])
            np.testing.assert_array_equal(less.labels, more.labels[: len(less)])
    finally:
        torch.set_num_threads(threads)


def test_seeds_and_splits_are_different() -> None:
    config = ListopsConfig(train=20, validation=20, test=20, min_length=50, max_length=200)
    other = ListopsConfig(train=20, validation=20, test=20, min_length=50, max_length=200, seed=1)
    everything = {tuple(words(part, row)) for c in (config, other) for part in parts(c) for row in range(20)}
    assert len(everything) == 120


def test_batches_are_padded_to_the_longest() -> None:
    assert isinstance(SMALL, Task)
    assert (SMALL.signature.length, SMALL.signature.vocabulary, SMALL.signature.outputs) == (199, 16, 10)
    batch = SMALL.load().train.gather([3, 1])
    assert batch.lengths is not None
    assert batch.inputs.shape == (2, int(batch.lengths.max()))
    for row, length in enumerate(batch.lengths):
        assert (batch.inputs[row, :length] > 0).all()
        assert (batch.inputs[row, length:] == 0).all()
        assert evaluate([TOKENS[token] for token in batch.inputs[row, :length]]) == batch.targets[row]


def test_without_validation_there_is_none() -> None:
    assert ListopsConfig(train=5, validation=0, test=5, min_length=5, max_length=50).load().validation is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seed": -1}, "seed"),
        ({"train": 0}, "train=0"),
        ({"validation": -1}, "validation=-1"),
        ({"test": 0}, "test=0"),
        ({"depth": 0}, "depth=0"),
        ({"arguments": 1}, "arguments=1"),
        ({"min_length": -1}, "min_length=-1"),
        ({"min_length": 10, "max_length": 11}, "max_length=11"),
        ({"depth": 3, "min_length": 122}, "more than 122 tokens"),
    ],
)
def test_senseless_values_are_refused(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ListopsConfig(**wrong)


def test_too_few_different_expressions_are_refused() -> None:
    with pytest.raises(DataError, match=r"too few different expressions .found 10 of 21"):
        ListopsConfig(train=11, validation=0, test=10, depth=1, min_length=0, max_length=2).load()


def test_lengths_that_hardly_occur_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transferfn.tasks.listops._TRIALS", 1000)
    with pytest.raises(DataError, match="none of 1000 expressions"):
        ListopsConfig(train=1, test=1, depth=3, min_length=120, max_length=123).load()


# ---------------------------------------------------------------------------------------------------- files


def nested(words: list[str]) -> str:
    """Write an expression with the parentheses of the published files: ((([MAX 2) 9) ])."""
    stack: list[str] = []
    for word in words:
        if word[0] == "[":
            stack.append(word)
            continue
        while True:
            if word == "]":
                word = f"( {stack.pop()} ] )"
            if not stack:
                return word
            stack[-1] = f"( {stack[-1]} {word} )"
            break
    raise AssertionError("not closed")


EXAMPLE = "( ( ( ( [MAX 2 ) 9 ) ( ( ( [MIN 4 ) 7 ) ] ) ) ] )"


def write(folder: Path, name: str, rows: list[tuple[str, int | str]]) -> None:
    lines = ["Source\tTarget", *(f"{source}\t{target}" for source, target in rows)]
    (folder / f"basic_{name}.tsv").write_bytes("".join(f"{line}\r\n" for line in lines).encode())


def write_all(folder: Path, rows: list[tuple[str, int | str]]) -> None:
    folder.mkdir(exist_ok=True)
    for name in ("train", "val", "test"):
        write(folder, name, rows)


def closed(written: str) -> list[str]:
    return written.replace("(", " ").replace(")", " ").split()


def test_published_files_are_read(tmp_path: Path) -> None:
    train, validation, test = parts(SMALL)
    for name, part in (("train", train), ("val", validation), ("test", test)):
        write(tmp_path, name, [(nested(words(part, row)), int(part.labels[row])) for row in range(len(part))])
    assert nested(closed(EXAMPLE)) == EXAMPLE
    config = ListopsConfig(path=tmp_path, published=False)
    assert config.signature.length == 2048
    for read, made in zip(parts(config), (train, validation, test), strict=True):
        np.testing.assert_array_equal(read.tokens, made.tokens)
        np.testing.assert_array_equal(read.starts, made.starts)
        np.testing.assert_array_equal(read.labels, made.labels)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(EXAMPLE, 9), (EXAMPLE[:-8], 9)], r"basic_test.tsv, line 3: these 7 tokens are not one whole expression"),
        ([(EXAMPLE, 9), (EXAMPLE.replace("7", "x"), 9)], "line 3: 'x' is no token"),
        ([(EXAMPLE, 8)], "line 2: Target is 8, but the expression has the value 9"),
        ([(EXAMPLE, "")], "line 2: invalid literal"),
        ([("", 1)], "line 2: these 0 tokens"),
        ([(EXAMPLE, "9\t9")], "line 2: expected 2 columns, .* found 3"),
        ([], "holds no expression"),
    ],
)
def test_damaged_files_are_refused_with_the_line(
    tmp_path: Path, rows: list[tuple[str, int | str]], message: str
) -> None:
    write_all(tmp_path, [(EXAMPLE, 9)])
    write(tmp_path, "test", rows)
    with pytest.raises(DataError, match=message):
        ListopsConfig(path=tmp_path, published=False).load()


def test_files_that_were_cut_between_lines_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_all(tmp_path, [(EXAMPLE, 9)])
    with pytest.raises(DataError, match=r"holds 1 train, 1 validation, 1 test, published are 96,000 train, .*no-publ"):
        ListopsConfig(path=tmp_path).load()
    sizes = {"train": 1, "validation": 1, "test": 1}
    monkeypatch.setattr(listops, "_SOURCE", replace(listops._SOURCE, sizes=sizes))
    ListopsConfig(path=tmp_path).load()


@pytest.mark.parametrize("content", [b"", b"Source,Target\n", b"Source\tTarget\n\xff\t1\n"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    write_all(tmp_path, [(EXAMPLE, 9)])
    (tmp_path / "basic_val.tsv").write_bytes(content)
    with pytest.raises(DataError, match=r"basic_val.tsv"):
        ListopsConfig(path=tmp_path, published=False).load()


def test_a_missing_file_is_named_with_its_source(tmp_path: Path) -> None:
    write_all(tmp_path, [(EXAMPLE, 9)])
    (tmp_path / "basic_test.tsv").unlink()
    with pytest.raises(DataError, match=r"basic_test.tsv is missing.*long-range-arena"):
        ListopsConfig(path=tmp_path, published=False).load()


def test_the_folder_of_the_whole_release_does_and_its_archive_does_not(tmp_path: Path) -> None:
    folder = tmp_path / "lra_release" / "listops-1000"
    folder.mkdir(parents=True)
    write_all(folder, [(EXAMPLE, 9)])
    assert [len(part) for part in parts(ListopsConfig(path=tmp_path / "lra_release", published=False))] == [1, 1, 1]
    archive = tmp_path / "lra_release.gz"
    archive.write_bytes(b"")
    with pytest.raises(DataError, match=r"lra_release.gz is a file, expected a folder: unpack the archive"):
        ListopsConfig(path=archive).load()


def test_numbers_of_what_is_made_are_refused_beside_files(tmp_path: Path) -> None:
    write_all(tmp_path, [(EXAMPLE, 9)])
    with pytest.raises(DataError, match=r"so that data.train=500, data.seed=1 would do nothing: leave out either"):
        ListopsConfig(path=tmp_path, published=False, train=500, seed=1).load()


@pytest.mark.parametrize("source", ["", "1 2", "]", "[MAX ]", "[MAX 1", "1 ]", "[MAX 1 2 ] 3", "[MAX 1 2 ] ]"])
def test_what_is_no_expression_has_no_value(source: str) -> None:
    with pytest.raises(ValueError, match="not one whole expression"):
        value(tokenize(source))


@pytest.mark.parametrize(
    ("source", "expected"),
    [("7", 7), ("[MED 1 2 ]", 1), ("[MED 9 1 4 ]", 4), ("[MED 1 8 3 6 ]", 4), ("[SM 9 9 9 ]", 7), ("[MIN 3 0 ]", 0)],
)
def test_values_of_small_expressions(source: str, expected: int) -> None:
    assert value(tokenize(source)) == expected
