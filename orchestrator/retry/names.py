"""Exception types: one by one, however they were given, and by qualified name, ``module:QualName``.

Owns: the name under which a type travels, and finding it again.
Refuses: types that another process cannot import under that name (defined inside a function, in the script
that was started, or hidden behind another object of the same name), names that are none, and names behind
which no type can be found here.
"""

from __future__ import annotations

import importlib
import types
from collections.abc import Iterator
from typing import Union, get_args, get_origin

from cnstra.orchestrator.errors import PolicyError

# In every process these name whatever script that process was started with.
_STARTED_SCRIPT = frozenset({"__main__", "__mp_main__"})


def flat_types(found: object) -> Iterator[object]:
    """Each of the types in what isinstance takes: one, a union of some, tuples of these."""
    if isinstance(found, tuple):
        for inner in found:
            yield from flat_types(inner)
    elif get_origin(found) in (Union, types.UnionType):
        yield from get_args(found)
    else:
        yield found


def name_of(found: type, at: str) -> str:
    """The name under which another process can import this type.

    Raises:
        PolicyError: when none exists. The type is looked up, so that a name which leads elsewhere is refused
        too.
    """
    name = f"{found.__module__}:{found.__qualname__}"
    if found.__module__ in _STARTED_SCRIPT:
        raise PolicyError(
            f"{at}: {found.__qualname__} is defined in the script that was started, and a worker cannot"
            " import it from there; move it into a module of its own and import it from that"
        )
    if "<locals>" in found.__qualname__:
        raise PolicyError(
            f"{at}: {name} is defined inside a function, and a worker cannot import it; move it to the top of"
            " its module"
        )
    if _look_up(name, at) is not found:
        raise PolicyError(
            f"{at}: the name {name} leads to another object than the one that the policy holds; give the type"
            " a name of its own"
        )
    return name


def type_named(name: object, at: str) -> type:
    """The type that this name stands for; its module is imported if it is not yet.

    Raises:
        PolicyError: when it is not such a name, or when nothing here answers to it.
    """
    if not isinstance(name, str) or not _is_name(name):
        raise PolicyError(f"{at}: {name!r} is no exception's name; one reads 'package.module:Name'")
    found = _look_up(name, at)
    if not isinstance(found, type):
        raise PolicyError(f"{at}: {name} is not a type but {found!r}")
    return found


def _is_name(name: str) -> bool:
    module, colon, path = name.partition(":")
    words = [*module.split("."), *path.split(".")]
    return bool(colon) and module not in _STARTED_SCRIPT and all(word.isidentifier() for word in words)


def _look_up(name: str, at: str) -> object:
    module, _, path = name.partition(":")
    try:
        found: object = importlib.import_module(module)
        for attribute in path.split("."):
            found = getattr(found, attribute)
    # SystemExit: the module of a type can be a script that calls sys.exit.
    except (Exception, SystemExit) as error:
        raise PolicyError(
            f"{at}: {name} cannot be imported here ({type(error).__name__}: {error}); deploy the module that"
            " defines it, or name an exception that every worker has"
        ) from error
    return found
