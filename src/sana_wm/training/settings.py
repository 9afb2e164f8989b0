"""Plain YAML or JSON values into frozen dataclasses, with the type hints as the specification."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from sana_wm.errors import InputError


def build(kind: Any, values: Any, where: str) -> Any:
    """The dataclass `kind` from a mapping.

    Raises:
        InputError: a setting is unknown, missing or of the wrong type; `where` says where the values come from.
    """
    if not isinstance(values, dict):
        raise InputError(f"{where}: expected a mapping of settings, found {values!r}")
    hints = get_type_hints(kind)
    names = {f.name for f in fields(kind)}
    unknown = sorted((key for key in values if key not in names), key=str)
    if unknown:
        raise InputError(f"{where}: unknown setting {unknown[0]!r}; known are {', '.join(sorted(names))}")
    built = {name: _value(hints[name], value, f"{where}: {name}") for name, value in values.items()}
    try:
        return kind(**built)
    except TypeError as error:
        raise InputError(f"{where}: {error}") from error


def _value(hint: Any, value: Any, where: str) -> Any:
    """`value` as the type `hint`."""
    if is_dataclass(hint):
        return build(hint, value, where)
    origin, parts = get_origin(hint), get_args(hint)
    if origin is tuple:
        kinds = parts[:1] * len(value) if isinstance(value, list) and parts[-1] is ... else parts
        if not isinstance(value, list) or len(value) != len(kinds):
            raise InputError(f"{where} is {value!r}; it must be a list" + ("" if ... in parts else f" of {len(parts)}"))
        return tuple(_value(kind, item, where) for kind, item in zip(kinds, value, strict=True))
    if origin is dict:
        if not isinstance(value, dict):
            raise InputError(f"{where} is {value!r}; it must be a mapping")
        return {_value(parts[0], key, where): _value(parts[1], item, where) for key, item in value.items()}
    if origin is Literal:
        if value not in parts:
            raise InputError(f"{where} is {value!r}; it must be one of {', '.join(map(repr, parts))}")
        return value
    if origin in (Union, UnionType):
        return None if value is None else _value(next(part for part in parts if part is not NoneType), value, where)
    return _scalar(hint, value, where)


def _scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            return float(value)  # YAML 1.1 reads 1e-3 as a string
        except ValueError:
            pass
    elif isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    wanted = {int: "a whole number", float: "a number", bool: "true or false"}
    raise InputError(f"{where} is {value!r}; it must be {wanted.get(hint, hint.__name__)}")
