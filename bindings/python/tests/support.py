"""Models and folders that the tests share."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from functools import cache
from pathlib import Path

import peregrine

# Shells start background jobs with SIGINT ignored, and processes inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[3]
TINY_CHAT = ROOT / "models" / "tiny-chat"
DIGITS = ROOT / "models" / "vim-digits"
FIXTURES = ROOT / "tests" / "fixtures"

QUESTION = "What is 3 plus 4?"
ANSWER = "3 plus 4 is 7."
STORY = "Tell me a story about a fox."


@cache
def tiny_chat() -> peregrine.Model:
    return peregrine.load(TINY_CHAT, slots=8, chunk=32)


def chat() -> peregrine.Session:
    return tiny_chat().chat(temperature=0)


def program() -> str:
    """The command line, as the same cargo invocation built it."""
    path = os.environ["PEREGRINE_PROGRAM"]
    assert Path(path).exists(), f"{path} is missing: these tests need `cargo test --workspace`, which builds it"
    return path


def other_process(code: str, **options: object) -> "subprocess.Popen[str]":
    """A Python that runs `code` with pipes."""
    command = [sys.executable, "-u", "-c", textwrap.dedent(code)]
    pipes = subprocess.PIPE
    return subprocess.Popen(command, cwd=Path(__file__).parents[1], stdin=pipes, stdout=pipes, stderr=pipes, text=True)


def resident() -> int:
    """Bytes of this process in memory; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def raised(call: Callable[[], object]) -> BaseException:
    """The exception of a call."""
    try:
        call()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")
