"""Running a command: its exit code, and one line for what went wrong.

==== =====================================================================
code meaning
==== =====================================================================
0    done
1    the run could not go on
2    an option, a column or a file that the user named cannot be used
130  interrupted
==== =====================================================================
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from app.config.options import option_name
from app.errors import HedgestreamError, InvalidParameterError, UserError

PROGRAM = "hedgestream"
INTERRUPTED = 130


def run(cli: click.Command, arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command line and exit; a user's mistake shows one line, no traceback.

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
        _fail(f"{option_name(error.name)} {error.problem}", 2)
    except UserError as error:
        _fail(str(error), 2)
    except HedgestreamError as error:
        _fail("; ".join([str(error), *getattr(error, "__notes__", ())]), 1)
    except KeyboardInterrupt:
        _fail("interrupted; run the same command again to go on", INTERRUPTED)
    except BrokenPipeError:
        if not _reader_has_gone():
            raise
        sys.exit(1)
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


def _fail(message: str, code: int) -> NoReturn:
    print("error: " + " ".join(message.split()), file=sys.stderr, flush=True)
    sys.exit(code)
