"""A policy as data: what `submit(retry=)` stores with a run, and any worker makes a policy of again.

Owns: the format and its version. `{"version": 1, "stop": …, "wait": …, "retry": …, "reraise": …}`, where each
part is `{"name": "stop_after_attempt", "max_attempt_number": 5}`: tenacity's name and its constructor's
parameters. Combinations hold their `parts`; times are seconds; exception types are `module:QualName`;
infinity is `"inf"`.
Refuses: on the way out, everything that no data can say (functions, callbacks, classes of the user's own); on
the way in, everything that it would not itself have written.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from tenacity import BaseRetrying, RetryError, Retrying, after_nothing, before_nothing, wait_none

from cnstra.orchestrator.errors import PolicyError
from cnstra.orchestrator.retry.door import MAX_DEPTH, check_policy, is_no_wait, number
from cnstra.orchestrator.retry.names import flat_types, name_of, type_named
from cnstra.orchestrator.retry.parts import BASES, Kind, Parameter, Shape, shape_named, shape_of

VERSION = 1

_LARGEST_INTEGER = 2**63 - 1
_INFINITIES = {"inf": math.inf, "-inf": -math.inf}


def to_data(policy: object, where: str) -> dict[str, Any]:
    """The policy as JSON-able data.

    Args:
        policy: made of tenacity's own strategies, without functions.
        where: the thing that it was given to, to begin the error's message with.

    Raises:
        PolicyError: naming `where` and the first part that cannot travel.
    """
    check_policy(policy, where)
    assert isinstance(policy, BaseRetrying)  # check_policy has seen to it
    _refuse_functions(policy, where)
    data: dict[str, Any] = {"version": VERSION}
    for role in BASES:
        part = wait_none() if role == "wait" and is_no_wait(policy.wait) else getattr(policy, role)
        data[role] = _write_part(part, f"{where}: {role}")
    data["reraise"] = bool(policy.reraise)
    # Only tenacity 9.2 has these two, and hardly a policy sets them.
    if not getattr(policy, "enabled", True):
        data["enabled"] = False
    if getattr(policy, "_name", None) is not None:
        data["name"] = _write_text(getattr(policy, "_name", None), f"{where}: name")
    from_data(data, where)  # what no worker could read is not stored
    return data


def from_data(data: object, where: str) -> Retrying:
    """The policy that `to_data` wrote. It decides as the one that was written, on every supported tenacity.

    Modules that define its exceptions are imported: read only what this project's own submit has stored.

    Raises:
        PolicyError: naming `where` and the part that is malformed, unknown or not to be found in this
        process.
    """
    fields = _fields(data, where)
    version = fields.pop("version", None)
    if version != VERSION or isinstance(version, bool):
        raise PolicyError(
            f"{where}: a stored policy of version {version!r}, and this release reads version {VERSION};"
            " upgrade the worker to the release that wrote it"
        )
    optional: dict[str, object] = {name: fields.pop(name) for name in ("enabled", "name") if name in fields}
    _expect_keys(fields, {*BASES, "reraise"}, where)
    strategies: dict[str, Any] = {role: _read_part(fields[role], role, f"{where}: {role}", 0) for role in BASES}
    settings = _read_settings({"reraise": fields["reraise"], **optional}, where)
    try:
        policy = Retrying(**strategies, **settings)
    except TypeError as error:  # tenacity 9.1 has no `enabled` and no `name`
        raise PolicyError(f"{where}: {_names(settings)}: {error}; it needs tenacity 9.2") from error
    check_policy(policy, where)  # what the door refuses does not come in by the back
    return policy


def _refuse_functions(policy: BaseRetrying, where: str) -> None:
    harmless = {"before": before_nothing, "after": after_nothing, "before_sleep": None}
    for name, nothing in harmless.items():
        if getattr(policy, name) not in (nothing, None):
            raise _not_data(f"{where}: {name}", "is a function")
    if policy.retry_error_cls is not RetryError:
        raise _not_data(f"{where}: retry_error_cls", "is a class of its own")


def _not_data(at: str, what: str) -> PolicyError:
    return PolicyError(
        f"{at} {what}, and a policy that travels with a run is data; use tenacity's own stop_*, wait_* and"
        " retry_* strategies that take no function, or give this policy to the CNS or a dendrite"
    )


def _write_part(part: object, at: str) -> dict[str, Any]:
    shape = shape_of(part)
    if shape is None:
        name = getattr(part, "__qualname__", None) or type(part).__qualname__
        raise _not_data(at, f"is {name}, which holds code")
    return {"name": shape.name} | {
        parameter.name: _write(parameter.read(part), parameter.kind, f"{at}.{parameter.name}")
        for parameter in shape.parameters
    }


def _write(value: Any, kind: Kind, at: str) -> object:
    match kind:
        case Kind.NUMBER | Kind.SECONDS:
            return _write_number(number(value, at), at)
        case Kind.PARTS:
            return [_write_part(part, f"{at}[{index}]") for index, part in enumerate(value)]
        case Kind.TYPES:
            return [_write_type(found, at) for found in flat_types(value)]
        case Kind.TEXT:
            return None if value is None else _write_text(value, at)
        case Kind.PATTERN:
            return None if value is None else _write_pattern(value, at)


def _write_number(value: float, at: str) -> float | str:
    if isinstance(value, float):
        return str(float(value)) if math.isinf(value) else float(value)
    if abs(value) > _LARGEST_INTEGER:
        raise PolicyError(f"{at} is an integer larger than the database holds; give it as a float")
    return int(value)


def _write_text(value: object, at: str) -> str:
    if not isinstance(value, str):
        raise PolicyError(f"{at} is a {type(value).__name__}, not a text")
    if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise PolicyError(f"{at} has a NUL or half a surrogate pair in it, which the database cannot hold; remove it")
    return value


def _write_pattern(value: object, at: str) -> dict[str, Any]:
    if not isinstance(value, re.Pattern):
        raise PolicyError(f"{at} is a {type(value).__name__}, not a pattern of the re module")
    return {"pattern": _write_text(value.pattern, at), "flags": value.flags & ~int(re.DEBUG)}


def _write_type(found: object, at: str) -> str:
    if not isinstance(found, type):
        raise _not_data(at, f"has {found!r}, which is no type")
    return name_of(found, at)


def _read_part(data: object, role: str, at: str, depth: int) -> object:
    if depth > MAX_DEPTH:
        raise PolicyError(f"{at}: a stored policy nested deeper than {MAX_DEPTH} strategies; it was not written here")
    fields = _fields(data, at)
    name = fields.pop("name", None)
    shape = shape_named(name) if isinstance(name, str) else None
    if shape is None or shape.role != role:
        raise PolicyError(
            f"{at}: a stored policy has {name!r} as its {role}, and this release knows no such strategy;"
            " upgrade the worker to the release that wrote it"
        )
    _expect_keys(fields, {parameter.name for parameter in shape.parameters}, at)
    return _make(shape, {p.name: _read(fields[p.name], p, role, at, depth) for p in shape.parameters}, at)


def _make(shape: Shape, arguments: dict[str, Any], at: str) -> object:
    try:
        return shape.make(**arguments)
    except (TypeError, ValueError) as error:
        raise PolicyError(f"{at}: {shape.name} refuses the stored {_names(arguments)}: {error}") from error


def _read(value: object, parameter: Parameter, role: str, at: str, depth: int) -> object:
    at = f"{at}.{parameter.name}"
    match parameter.kind:
        case Kind.NUMBER:
            return _read_number(value, at)
        case Kind.SECONDS:
            return float(_read_number(value, at))
        case Kind.PARTS:
            parts = enumerate(_list(value, at))
            return tuple(_read_part(part, role, f"{at}[{index}]", depth + 1) for index, part in parts)
        case Kind.TYPES:
            return tuple(type_named(name, at) for name in _list(value, at))
        case Kind.TEXT:
            return None if value is None else _write_text(value, at)
        case Kind.PATTERN:
            return None if value is None else _read_pattern(value, at)


def _read_number(value: object, at: str) -> float:
    if isinstance(value, str) and value in _INFINITIES:
        return _INFINITIES[value]
    return number(value, at)


def _read_pattern(value: object, at: str) -> re.Pattern[str]:
    fields = _fields(value, at)
    _expect_keys(fields, {"pattern", "flags"}, at)
    flags = fields["flags"]
    if isinstance(flags, bool) or not isinstance(flags, int):
        raise PolicyError(f"{at}: the flags of a stored pattern are {flags!r}, not a number")
    try:
        return re.compile(_write_text(fields["pattern"], at), flags)
    except (re.error, ValueError, OverflowError) as error:
        raise PolicyError(f"{at}: the stored pattern does not compile: {error}") from error


def _read_settings(settings: dict[str, object], where: str) -> dict[str, Any]:
    for name, value in settings.items():
        if not isinstance(value, str if name == "name" else bool):
            raise PolicyError(f"{where}: {name} of a stored policy is {value!r}; it was not written by this project")
    return settings


def _fields(data: object, at: str) -> dict[str, object]:
    if not isinstance(data, Mapping):
        raise PolicyError(f"{at}: a stored policy has a {type(data).__name__} where an object belongs")
    return dict(data)


def _list(data: object, at: str) -> list[object]:
    if not isinstance(data, list | tuple):
        raise PolicyError(f"{at}: a stored policy has a {type(data).__name__} where a list belongs")
    return list(data)


def _expect_keys(fields: Mapping[str, object], expected: set[str], at: str) -> None:
    if missing := expected - fields.keys():
        raise PolicyError(f"{at}: a stored policy lacks {_names(missing)}; it was not written by this project")
    if unknown := fields.keys() - expected:
        raise PolicyError(
            f"{at}: a stored policy has {_names(unknown)}, which this release does not know; upgrade the"
            " worker to the release that wrote it"
        )


def _names(names: object) -> str:
    assert isinstance(names, set | dict)
    return ", ".join(sorted(str(name) for name in names)) or "nothing"
