"""The page about the command line says what the commands say."""

from __future__ import annotations

from typing import Any

import pytest

from support.cli_reference import BEGIN, PAGE, arguments_of, commands, generated, options_of

OPTIONS = [
    pytest.param(command, option, id=f"{name} {option.opts[0]}")
    for name, command in commands().items()
    for option in options_of(command)
]


def test_the_page_is_what_the_commands_say() -> None:
    """An option that was added, or means something else now, is on the page."""
    _, begin, rest = PAGE.read_text().partition(BEGIN)

    assert begin + rest == generated(), "write it anew: cd tests && python -m support.cli_reference"


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_every_option_names_its_environment_twin(command: Any, option: Any) -> None:
    """A twin that begins with CNSTRA_ and ends with the option's name, and is in the command's help."""
    name = option.opts[0].removeprefix("--").upper().replace("-", "_")

    assert option.envvar.startswith("CNSTRA_")
    assert option.envvar.endswith(f"_{name}")
    assert option.help


@pytest.mark.parametrize("name", commands())
def test_every_command_says_what_it_does_in_one_line(name: str) -> None:
    """That is the line in the list of commands, where a longer one is cut."""
    command = commands()[name]
    first = command.help.split("\n\n")[0]

    assert "\n" not in first.strip()
    assert len(first) <= 60
    assert all(given.metavar and given.help for given in arguments_of(command))


def test_an_option_has_the_same_twin_in_every_command() -> None:
    """Options of one name that share a variable mean the same."""
    meanings: dict[str, set[str]] = {}
    for command in commands().values():
        for option in options_of(command):
            meanings.setdefault(option.envvar, set()).add(option.help)

    assert {variable for variable, helps in meanings.items() if len(helps) > 1} == set()
