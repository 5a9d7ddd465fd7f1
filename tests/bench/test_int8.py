from __future__ import annotations

from transferfn.bench import int8


def test_every_kind_of_weights_is_timed_at_every_number_of_rows() -> None:
    found = list(int8.rows([(16, 32), (32, 8)], (1, 20)))
    assert [row["rows"] for row in found] == [1, 20]
    for row in found:
        assert list(row) == ["rows", "float32, ms", "bytes, ms", "bfloat16, ms"]
        assert min(row["float32, ms"], row["bytes, ms"], row["bfloat16, ms"]) > 0
