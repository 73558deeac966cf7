"""Running a command: its exit code, and one line for what went wrong.

==== =====================================================================
code meaning
==== =====================================================================
0    done
1    the run could not go on
2    an option, a column or a file that the user named cannot be used
3    another run is using the work directory
4    a newer run has taken the work directory over
130  interrupted
143  asked to end before it had done what it was started for
==== =====================================================================
"""

from __future__ import annotations

import errno
import os
import select
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from app.config.options import option_name
from app.errors import HedgestreamError, InvalidParameterError

PROGRAM = "hedgestream"
INTERRUPTED = 130

TRACEBACK = "HEDGESTREAM_TRACEBACK"
"""Environment variable that has the traceback of a fault of the program shown."""

# What lies in the machine, and not in the program.
_OF_MACHINE = {
    getattr(errno, name)
    for name in ("ENOSPC", "EDQUOT", "EROFS", "EIO", "EMFILE", "ENFILE", "ENOMEM")
}


def run(cli: click.Command, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command line and exit; what goes wrong shows one line, no traceback.

    Parameters
    ----------
    cli
    arguments
        Those of the process when None.
    """
    if arguments is None:
        arguments = sys.argv[1:]
    try:
        # Not by main(), which prints an empty line of its own when it is interrupted.
        with cli.make_context(PROGRAM, list(arguments)) as context:
            cli.invoke(context)
    except click.exceptions.Exit as stopped:
        sys.exit(stopped.exit_code)
    except click.UsageError as error:
        _fail(error.format_message(), 2)
    except InvalidParameterError as error:
        _fail(f"{option_name(error.name)} {error.problem}", error.exit_code)
    except HedgestreamError as error:
        _fail("; ".join([str(error), *getattr(error, "__notes__", ())]), error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted; run the same command again to go on", INTERRUPTED)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_has_gone():
            sys.exit(1)
        if os.environ.get(TRACEBACK):
            raise
        _fail(_unexpected(error), 1)
    sys.exit(0)


def _reader_has_gone() -> bool:
    """Return whether what reads the output, such as head, has ended."""
    try:
        output = sys.stdout.fileno()
    except OSError:
        # Not a file, and so not a pipe.
        return False
    poll = select.poll()
    poll.register(output, 0)
    if not poll.poll(0):
        return False
    # Python flushes once more at its end, and would complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return True


def _unexpected(error: Exception) -> str:
    """Return the line for an exception that nobody has raised on purpose."""
    if isinstance(error, OSError) and error.errno in _OF_MACHINE:
        return str(error)
    said = f"{type(error).__name__}: {error}".removesuffix(": ")
    return f"{said}. This is a fault of {PROGRAM}; {TRACEBACK}=1 shows where"


def _fail(message: str, code: int) -> NoReturn:
    print("error: " + " ".join(message.split()), file=sys.stderr, flush=True)
    sys.exit(code)
