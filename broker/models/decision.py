"""A decision on a model, from a file or from options; what is missing is said with its place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError

from broker.config.validate import validate
from broker.config.yaml_lines import read_yaml, shown_name
from broker.models.locate import decided_name
from broker.models.registry import shelf_of
from llm.model_file import BUILTIN, builtins
from schemas.errors import ConfigError, Problem, Refused
from schemas.ladder import USES, Decision, DecisionFile, Rung
from schemas.manifest import REGISTRY, parse_reference

if TYPE_CHECKING:
    from broker.config.model import Config


def make(config: Config, model: str, use: str, file: Path | None, options: dict[str, Any]) -> Decision:
    """
    The decision that a person wrote down.

    *options* are ``rung``, ``axes`` and ``reason`` as given on the command line; they count where *file* is None.

    Raises:
        ConfigError: every problem of the file, with line and column.
        Refused: a word is missing, or the rung is not the model's.
    """
    if use not in USES:
        raise Refused(f"--use is {' or '.join(USES)}, not {use!r}")
    written = _from_file(file) if file is not None else _from_options(options)
    name = model if ":" in model or "/" in model else _registered(config, model)
    if name.startswith(REGISTRY):
        try:
            name = decided_name(name)
        except ValueError as error:
            raise Refused(str(error)) from None
    own = _own_rung(config, name)
    if own is not None and written.rung not in (None, own):
        raise Refused(f"{name} stands on rung {own}, not on {written.rung}: its manifest says so")
    rung = own or written.rung
    if rung is None:
        raise Refused(f"nothing says on which rung {name} stands: give rung, one of {', '.join(get_args(Rung))}")
    made = {"use": use, "model": name, "rung": rung, **written.model_dump(exclude={"rung"})}
    return Decision.model_validate(made)


def _registered(config: Config, name: str) -> str:
    """A bare name is one of the registry where such a model is on the shelf, else it stays as it is."""
    plain = name.partition("@")[0]
    known = any(held.manifest.name == plain for held in shelf_of(config).all())
    return f"{REGISTRY}{name}" if known else name


def _own_rung(config: Config, name: str) -> Rung | None:
    """The rung that the model itself says, if it does."""
    if name.startswith(BUILTIN):
        if name.removeprefix(BUILTIN) not in builtins():
            raise Refused(f"this installation has no {name}")
        return "builtin"
    if name.startswith(REGISTRY):
        wanted = parse_reference(name).name
        found = [held.manifest for held in shelf_of(config).all() if held.manifest.name == wanted]
        if not found:
            raise Refused(f"no model {wanted!r} is here; fairlead model import brings one")
        return max(found, key=lambda manifest: manifest.version).rung
    return None


def _from_file(path: Path) -> DecisionFile:
    node, problems = read_yaml(path, shown_name(path))
    found: list[Problem] = list(problems)
    made = None if node is None else validate(DecisionFile, node, (), found)
    if made is None or any(not problem.warning for problem in found):
        raise ConfigError(found)
    return made


def _from_options(options: dict[str, Any]) -> DecisionFile:
    given = {"rung": options["rung"] or None, "axes": options["axes"], "reason": options["reason"]}
    try:
        return DecisionFile.model_validate(given)
    except ValidationError as error:
        missing = [
            f"--{str(one['loc'][-1]).replace('_', '-')}" for one in error.errors() if one["type"] == "string_too_short"
        ]
        if missing:
            raise Refused(
                f"a decision says something on each axis, or comes from --file; missing: {', '.join(missing)}"
            ) from None
        first = error.errors()[0]
        raise Refused(f"--{str(first['loc'][-1]).replace('_', '-')}: {first['msg']}") from None
