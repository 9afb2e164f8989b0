"""Plain values from JSON or YAML into frozen dataclasses, with the type hints as the specification."""

from __future__ import annotations

import math
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from sana_wm.errors import InputError

Config = TypeVar("Config")


def config_from_dict(kind: type[Config], values: Any, where: str) -> Config:
    """The dataclass `kind` from a mapping of plain values; dataclasses inside it come from mappings inside.

    Raises:
        InputError: a setting is unknown, missing, of the wrong type or out of range; `where` says where the values
            come from.
    """
    if not isinstance(values, dict):
        raise InputError(f"{where}: expected a mapping of settings, found {values!r}")
    known = fields(kind)  # type: ignore[arg-type]
    names = sorted(field.name for field in known)
    unknown = sorted((key for key in values if key not in names), key=str)
    if unknown:
        raise InputError(f"{where}: unknown setting {unknown[0]!r}; known are {', '.join(names)}")
    required = (f.name for f in known if f.default is MISSING and f.default_factory is MISSING)
    missing = [name for name in required if name not in values]
    if missing:
        raise InputError(f"{where}: missing setting {missing[0]!r}; it has no default")
    hints = get_type_hints(kind)
    return kind(**{name: _value(hints[name], value, f"{where}: {name}") for name, value in values.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    """`value` as the type `hint`."""
    if is_dataclass(hint):
        return config_from_dict(hint, value, where)  # type: ignore[arg-type]
    origin, parts = get_origin(hint), get_args(hint)
    if origin is tuple:
        if not isinstance(value, (list, tuple)) or (... not in parts and len(value) != len(parts)):
            raise InputError(f"{where} is {value!r}; it must be a list" + ("" if ... in parts else f" of {len(parts)}"))
        kinds = parts[:1] * len(value) if ... in parts else parts
        return tuple(_value(part, item, where) for part, item in zip(kinds, value, strict=True))
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


def _scalar(hint: type, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            number = float(value)  # YAML 1.1 reads 1e-3 as a string
        except (ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number):
            return number
    elif isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    wanted = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    raise InputError(f"{where} is {value!r}; it must be {wanted[hint]}")
