"""Files that are whole or absent: what is written beside a file takes its place in one piece."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name beside a file to write to: what is there at the end takes the file's place; after an error, nothing.

    Args:
        path: The file, whose folder is there.

    Yields:
        Where to write: the same name with ``.part`` at its end.

    Raises:
        OSError: if the file cannot be written.
        KeyboardInterrupt: if the user stops it, whatever the writer makes of that.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> file = Path(folder.name) / "kept.txt"
        >>> with replacing(file) as part:
        ...     _ = part.write_text("all of it")
        >>> file.read_text(), part.exists()
        ('all of it', False)
        >>> folder.cleanup()
    """
    part = path.with_name(f"{path.name}.part")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())  # otherwise a power cut may leave an empty file under the final name
        os.replace(part, path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            part.unlink(missing_ok=True)
        if isinstance(error.__context__, KeyboardInterrupt):
            # torch.save, stopped half-way, closes its archive and complains that it is not whole.
            raise error.__context__ from None
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees all of it or the one before.

    Args:
        path: The file.
        data: What to write.

    Raises:
        OSError: if it cannot be written.
    """
    with replacing(path) as part:
        part.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8 so that a reader sees all of it or the one before.

    Args:
        path: The file.
        text: What to write.

    Raises:
        OSError: if it cannot be written.
    """
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file so that a reader sees all of it or the one before.

    Args:
        path: The file.
        value: What to write.

    Raises:
        OSError: if it cannot be written.
    """
    write_text(path, json.dumps(value, indent=2) + "\n")


def with_ending(path: Path, ending: str) -> Path:
    """Return a path with something at its end; ``with_suffix`` would take the end of ``v1.2`` for one.

    Args:
        path: Where, without an ending.
        ending: Such as ``.md``.

    Example:
        >>> with_ending(Path("results/v1.2"), ".md").as_posix()
        'results/v1.2.md'
    """
    return path.with_name(path.name + ending)
