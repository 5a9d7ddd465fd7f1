"""One process at a time trains in a folder: a lock that ends with the process that holds it."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from transferfn.training.run import RunError, process_rank


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes from training in a folder meanwhile; of several processes of a run the main one does.

    The lock is the process's own, so that ``kill -9`` ends it and workers, which are forked, do not go on holding it.
    Nothing is held on Windows, nor on a disk without locks.

    Args:
        folder: The folder. It is made if it is not there, and taken away again if nothing is in it at the end.

    Raises:
        RunError: if another process trains there, or the folder cannot be written.
    """
    if sys.platform == "win32" or process_rank() != 0:
        yield
        return
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    path = folder / "lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = _locked(path)
    except OSError as error:
        raise RunError(f"the run's folder cannot be written ({error}): choose another with --out") from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        file.close()
        with contextlib.suppress(OSError):  # not empty, as it should be
            for place in made:
                place.rmdir()


def _locked(path: Path) -> IO[str]:
    """Return the file of a lock with the lock on it, and in it who holds it."""
    import fcntl

    while True:
        file = path.open("a+")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not flock, which a forked worker goes on holding
        except (BlockingIOError, PermissionError):
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise RunError(
                f"{path.parent} is being trained in by {holder}: wait for its end, or choose another folder with --out"
            ) from None
        except OSError:  # a disk without locks
            pass
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                file.truncate(0)
                file.write(f"process {os.getpid()} of {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M')}\n")
                file.flush()
                return file
        file.close()  # whoever held it has taken the file away meanwhile
