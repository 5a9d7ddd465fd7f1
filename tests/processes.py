"""Processes of their own that begin at once, forked from one that has imported what they need and done nothing else.

An interpreter that imports PyTorch and Lightning itself takes ten seconds to begin.
"""

from __future__ import annotations

import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

IMPORTED = [
    "matplotlib.figure",
    "numba",
    "optuna",
    "scipy.signal",
    "torch.utils.tensorboard",
    "transferfn.cli.commands",
]
IMPORTED += [f"transferfn.training.{name}" for name in ("checkpoint", "log", "module")]


def begin(
    function: Callable[..., Any],
    *arguments: Any,
    environment: Mapping[str, str] | None = None,
    told: Path | None = None,
    printed: Path | str = os.devnull,
) -> BaseProcess:
    """Call a function in a process of its own, which ends with it.

    Args:
        function: What is called, of a module beside this one.
        arguments: What it is given.
        environment: Variables that only this process has.
        told: File for what it says on standard error.
        printed: File for what it prints, if ``told`` is given, too.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    process = context.Process(target=_call, args=(function, arguments, dict(environment or {}), told, printed))
    process.start()
    return process


def _call(
    function: Callable[..., Any], arguments: Any, environment: dict[str, str], told: Path | None, printed: Path | str
) -> None:
    import torch

    torch.set_num_threads(1)
    multiprocessing.set_start_method(None, force=True)  # else it would start its own children as it was started
    os.environ.update(environment | {"OMP_NUM_THREADS": "1"})
    if told is not None:
        for file, stream in ((printed, 1), (told, 2)):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    function(*arguments)


def status(process: BaseProcess, timeout: float = 300) -> int:
    """Wait for a process and return how it ended: its status, or minus the signal."""
    process.join(timeout)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"a process has not ended in {timeout} s")
    return process.exitcode


def command(*words: str) -> None:
    """The command line, as a shell runs it in the foreground."""
    from transferfn.cli import main

    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main(words))


def ranks(count: int) -> list[dict[str, str]]:
    """Variables by which processes that train together find each other, as whoever starts them gives them."""
    if count == 1:
        return [{}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    return [{"LOCAL_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port} for rank in range(count)]


def interpret(*words: str) -> None:
    """What an interpreter does with ``-c code`` or ``-m module``, and further arguments."""
    how, what, *arguments = words
    sys.argv = [how, *arguments]
    if how == "-c":
        exec(what, {"__name__": "__main__"})
    else:
        runpy.run_module(what, run_name="__main__")


def run_script(path: Path) -> None:
    """A script in which any warning is an error."""
    warnings.simplefilter("error")
    sys.argv = [str(path)]
    runpy.run_path(str(path), run_name="__main__")


class Forked:
    """Stands for ``subprocess.Popen`` of an interpreter."""

    returncode: int | None = None

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        assert command[0] == sys.executable
        self.process = begin(interpret, *command[1:], environment=env)

    def wait(self) -> int:
        self.returncode = status(self.process)
        return self.returncode


def run_forked(command: list[str], *, env: dict[str, str], **_: Any) -> subprocess.CompletedProcess[str]:
    """Stands for ``subprocess.run`` of an interpreter, whose words are kept."""
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "told"
        ended = status(begin(interpret, *command[1:], environment=env, told=told))
        return subprocess.CompletedProcess(command, ended, "", told.read_text())
