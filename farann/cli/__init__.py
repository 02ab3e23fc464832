"""The command line: `arguments` has parser and help, `commands` and `posneg` what commands do.

It imports the public package alone, and files; nothing imports it but ``python -m farann``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module

from farann.cli.arguments import USAGE_ERROR, parser_of_commands, refuse
from farann.cli.streams import Streams, printable
from farann.cli.terminal import LIST_FILES, ROW_FILES, STREAM, blaming_options, remarking, say

__all__ = ["main"]

USER_ERRORS = (ValueError, KeyError, OSError, ImportError, MemoryError)
INTERRUPTED, BROKEN_PIPE = 130, 141  # exit statuses, as of a shell: 128 and SIGINT or SIGPIPE
# First bytes of files, by which the format of standard input is recognized.
_STARTS = {b"\x93NUMPY": ".npy", b"PK\x03\x04": ".npz", b"PAR1": ".parquet",
           b"\x89HDF\r\n\x1a\n": ".hdf5", b"{": ".jsonl", b"[": ".jsonl"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line with some arguments, by default those of the process.

    Returns the exit status: 0, 1 (the demo found a wrong answer), 2 (the user can mend it), 130
    (interrupted), 141 (nobody reads the output any more).
    """
    arguments = argparse.Namespace()
    with Streams() as streams:
        try:
            status = _run(argv, arguments)
            sys.stdout.flush()
            return status
        except KeyboardInterrupt:
            _complain("farann: interrupted")
            return INTERRUPTED
        except BrokenPipeError:
            return BROKEN_PIPE
        except USER_ERRORS as error:
            streams.give_up()
            text = blaming_options(_one_line(error), arguments)
            _complain(f"farann: error: {printable(text)}", "bold red")
            return USAGE_ERROR


def _run(argv: Sequence[str] | None, arguments: argparse.Namespace) -> int:
    """Run a command, and return its exit status."""
    try:
        parser = parser_of_commands()
        _, unknown = parser.parse_known_args(argv, arguments)
        if unknown:
            refuse(arguments, unknown)
    except SystemExit as leaving:  # argparse has said what there is to say
        return leaving.code if isinstance(leaving.code, int) else USAGE_ERROR
    if arguments.version:
        import farann

        print(f"farann {farann.__version__} ({farann.Index().isa})")
        return 0
    if arguments.command is None:
        parser.print_help()
        return 0
    # Only now, so that --help comes at once.
    module = import_module(
        f"farann.cli.{'posneg' if arguments.command == 'posneg' else 'commands'}")
    with _standard_input(arguments), remarking(arguments):
        status: int | None = getattr(module, arguments.command)(arguments)
    return status or 0


def _complain(text: str, style: str = "") -> None:
    """Print an error, if anybody can be told."""
    with suppress(OSError):
        say(text, style, sys.stderr)


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        text = f"{error.filename}: {error.strerror}"
    elif isinstance(error, KeyError) and error.args:
        text = str(error.args[0])  # str() of a KeyError has quotes around it
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())


@contextmanager
def _standard_input(arguments: argparse.Namespace) -> Iterator[None]:
    """Copy standard input to a file, which lives as long as the command.

    What it is, its first bytes say. Errors speak of standard input, not of the file.
    """
    arguments.standard_input = None
    named = [name for name in (*ROW_FILES, *LIST_FILES)
             if getattr(arguments, name, None) in (STREAM, [STREAM])]
    if not named or arguments.command == "demo":
        yield
        return
    if len(named) > 1:
        raise ValueError(f"{STREAM}: standard input can be one file, got it as {len(named)}")
    if sys.stdin is None:
        raise ValueError(f"{STREAM}: standard input is closed")
    import shutil
    import tempfile

    with tempfile.TemporaryDirectory(prefix="farann-") as folder:
        start = sys.stdin.buffer.read(8)
        suffix = next((name for magic, name in _STARTS.items() if start.startswith(magic)),
                      ".csv" if named[0] in (*ROW_FILES, "scores") else ".txt")
        path = os.path.join(folder, f"stdin{suffix}")
        try:
            with open(path, "wb") as stream:
                stream.write(start)
                shutil.copyfileobj(sys.stdin.buffer, stream)
        except OSError as error:
            error.filename = f"{path}, a copy of standard input"
            raise
        setattr(arguments, named[0], path)
        arguments.standard_input = path
        try:
            yield
        except (ValueError, ImportError) as error:
            raise type(error)(str(error).replace(path, "standard input")) from error
