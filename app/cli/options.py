"""Options of the command line, made from the settings that declare them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import rich_click as click
from docstring_parser import DocstringStyle, parse

from app.config.options import Option, option_name, options_of
from app.config.variants import DEFAULT_VARIANT, VARIANTS

NumberT = TypeVar("NumberT", int, float)
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])


def integer(text: str) -> int:
    """Return an option's value as an integer, or refuse it."""
    return _parsed(int, "an integer", text)


def number(text: str) -> float:
    """Return an option's value as a number, or refuse it."""
    return _parsed(float, "a number", text)


PATH = click.Path(path_type=Path)
_TYPES: dict[type, Any] = {int: integer, float: number, bool: bool, str: str, Path: PATH}


def settings_options(settings: type) -> list[click.Parameter]:
    """Return an option for each field of a settings class that declares one.

    Help texts are the descriptions of the docstrings, of the class and those it derives from.
    """
    descriptions = _descriptions(settings)
    fields = {field.name: field for field in dataclasses.fields(settings)}
    return [
        _option(fields[name], option, kind, descriptions.get(name, ""))
        for name, (option, kind) in options_of(settings).items()
    ]


def given_options(context: click.Context, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return those options that the user gave: defaults are left to the settings."""
    return {name: value for name, value in options.items() if _source(context, name) != "DEFAULT"}


def json_option(help: str = "Print JSON.") -> Callable[[FunctionT], FunctionT]:
    return click.option("--json", "as_json", is_flag=True, help=help)


def redis_url_option(help: str) -> Callable[[FunctionT], FunctionT]:
    return click.option(
        "--redis-url",
        metavar="URL",
        envvar="REDIS_URL",
        show_envvar=True,
        callback=url_without_password,
        help=help,
    )


def url_without_password(
    context: click.Context, parameter: click.Parameter, url: str | None
) -> str | None:
    """Refuse a password on the command line, where every user of the machine sees it."""
    assert parameter.name is not None
    if not url or _source(context, parameter.name) != "COMMANDLINE":
        return url
    from app.redis_io.url import has_password

    if has_password(url):
        raise click.BadParameter(
            "must not hold a password, which other users of this machine would see; put the URL "
            f"in the environment variable {parameter.envvar}",
            context,
            parameter,
        )
    return url


def is_from_environment(context: click.Context, name: str) -> bool:
    return _source(context, name) == "ENVIRONMENT"


def _source(context: click.Context, name: str) -> str:
    source = context.get_parameter_source(name)
    return "DEFAULT" if source is None else source.name


def _parsed(kind: Callable[[str], NumberT], expected: str, text: str) -> NumberT:
    try:
        # Defaults are parsed too, and those are numbers.
        return kind(text)
    except ValueError as error:
        raise click.BadParameter(f"must be {expected}, not {text!r}") from error


def _option(
    field: dataclasses.Field[Any], option: Option, kind: type, description: str
) -> click.Parameter:
    name, default = option_name(field.name), _shown_default(field)
    switch = f"{name}/--no-{name[2:]}" if default is True else name
    metavar = "|".join(option.choices) or option.metavar
    return click.RichOption(
        [switch, field.name],
        type=_TYPES.get(kind, str),
        # False would let an option without a default stand without its value, too.
        is_flag=True if kind is bool else None,
        multiple=option.multiple,
        required=field.default is field.default_factory is dataclasses.MISSING,
        show_default=default is not None and default is not False,
        metavar=None if kind is bool else metavar,
        envvar=option.envvar,
        show_envvar=option.envvar is not None,
        callback=url_without_password if option.envvar else None,
        help=description,
        panel=option.panel,
        # None would count as a value, and so satisfy an option that is required.
        **({} if default is None else {"default": default}),
    )


def _shown_default(field: dataclasses.Field[Any]) -> Any:
    """Return the default that the help shows; the settings have their own."""
    default = field.default
    if default is dataclasses.MISSING or default == ():
        return None
    if default is None:
        return VARIANTS[DEFAULT_VARIANT].get(field.name)
    return default if isinstance(default, (bool, int, float)) else str(default)


def _descriptions(settings: type) -> dict[str, str]:
    found = {}
    # From the base down: a class may say more than the one it derives from.
    for each in reversed(settings.__mro__):
        for parameter in parse(each.__doc__ or "", DocstringStyle.NUMPYDOC).params:
            text = " ".join((parameter.description or "").split())
            found[parameter.arg_name] = text.replace("``", "")
    return found
