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

import logging
import sys
from collections.abc import Callable
from typing import NoReturn, TypeVar

import typer

from app.config import option_name
from app.errors import HedgestreamError, InvalidParameterError, UserError

T = TypeVar("T")

INTERRUPTED = 130

# The base of typer's own errors about options; typer does not export it.
_UsageError = typer.BadParameter.__base__


def run(cli: typer.Typer) -> NoReturn:
    """Run a command line and exit; a user's mistake shows one line, no traceback."""
    # Logs, with a traceback, each exception that foreachBatch then raises here anyway.
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    # Older typers print the local variables of a traceback, and so the URL of Redis.
    cli.pretty_exceptions_show_locals = False
    try:
        code = cli(standalone_mode=False)
    except _UsageError as error:
        # No command at all shows the help, and then has nothing more to say.
        _fail(error.format_message(), 2) if error.format_message() else sys.exit(2)
    except InvalidParameterError as error:
        _fail(f"{option_name(error.name)} {error.problem}", 2)
    except UserError as error:
        _fail(str(error), 2)
    except HedgestreamError as error:
        _fail("; ".join([str(error), *getattr(error, "__notes__", ())]), 1)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:
        _fail("interrupted; run the same command again to go on", INTERRUPTED)
    sys.exit(code or 0)


def integer(text: str) -> int:
    """Parse an option's value as an integer, or say what was there instead."""
    return _parsed(int, "an integer", text)


def number(text: str) -> float:
    """Parse an option's value as a number, or say what was there instead."""
    return _parsed(float, "a number", text)


def url_without_password(
    context: typer.Context, parameter: typer.CallbackParam, url: str | None
) -> str | None:
    """Refuse a password on the command line, where every user of the machine sees it."""
    from app.registry.url import has_password

    given = context.get_parameter_source(parameter.name)
    if url and given is not None and given.name == "COMMANDLINE" and has_password(url):
        raise typer.BadParameter(
            "must not hold a password, which other users of this machine would see; put the URL "
            f"in the environment variable {parameter.envvar}"
        )
    return url


def _parsed(kind: Callable[[str], T], expected: str, text: str) -> T:
    try:
        # Typer parses defaults too, and those are not text.
        return kind(text)
    except ValueError as error:
        raise typer.BadParameter(f"must be {expected}, not {text!r}") from error


def _fail(message: str, code: int) -> NoReturn:
    print("error: " + " ".join(message.split()), file=sys.stderr, flush=True)
    sys.exit(code)
