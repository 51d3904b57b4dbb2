"""Read ``fairlead.yaml``: every problem in one run, each with file, line, column and what to do."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

import adapters  # noqa: F401 - importing the package fills the registry
from adapters.base import REGISTRY, SourceOptions
from broker.config.environment import apply_environment
from broker.config.model import NAME, SECTIONS, VERSION, Config, RootOptions, named_site, section_defaults
from broker.config.validate import literal_secrets, nearest, validate
from broker.config.yaml_lines import Node, read_yaml, shown_name
from broker.store.options import StoreOptions
from schemas.errors import ConfigError, Problem

_TOP: Final = {*RootOptions.model_fields, "sources", *SECTIONS}


@dataclass(slots=True)
class Checked:
    """
    What a configuration file says, as far as it can be read.

    ``draft`` is there as soon as the site is known: broken sections have their defaults and broken sources are left
    out (``broken``), so that the tag maps can be checked in the same run. It may be used to run only when ``problems``
    holds warnings alone.
    """

    draft: Config | None
    problems: list[Problem]
    broken: frozenset[str] = frozenset()
    tree: Node | None = field(default=None, repr=False)

    @property
    def errors(self) -> list[Problem]:
        """The problems that block."""
        return [problem for problem in self.problems if not problem.warning]


def load_config(path: Path, environ: Mapping[str, str] | None = None) -> Config:
    """The effective configuration of the file *path*. Raises ConfigError with every problem found."""
    checked = check_config(path, environ)
    if checked.errors or checked.draft is None:
        raise ConfigError(checked.errors)
    return checked.draft


def check_config(path: Path, environ: Mapping[str, str] | None = None) -> Checked:
    """Read *path* and report; never raises for what the file says. *environ* defaults to the process's."""
    problems: list[Problem] = []
    top, found = read_yaml(path, shown_name(path))
    problems += found
    if top is None:
        return Checked(None, problems)
    apply_environment(top, os.environ if environ is None else environ, _TOP, problems)
    problems += literal_secrets(top)
    for key in top.items:
        if key not in _TOP:
            hint = nearest(key, _TOP)
            problems.append(top.key_problem(key, str(key), "unknown_key", f"unknown option {key!r}", hint))
    root = _root(top, problems)
    sources, kinds, broken = _sources(top, problems)
    sections = section_defaults()
    for name, model in SECTIONS.items():
        if name in top.items and (node := _map(top.items[name], name, problems)) is not None:
            sections[name] = validate(model, node, (name,), problems) or sections[name]
    base_dir = path.parent.resolve()
    sections["store"] = _anchored(sections["store"], base_dir)
    draft = None
    if root is not None:
        draft = Config(
            site=named_site(root.site),
            data_dir=(base_dir / root.data_dir).resolve(),
            base_dir=base_dir,
            path=path.resolve(),
            tag_maps=root.tag_maps,
            sources=sources,
            kinds=kinds,
            **sections,
        )
        problems += _missing_files(draft, top)
    return Checked(draft, tidy(problems), frozenset(broken), top)


def tidy(problems: list[Problem]) -> list[Problem]:
    """*problems* by file and line; of several at one place only a literal secret, if there is one."""
    secrets = {(p.file, p.line, p.column) for p in problems if p.code == "literal_secret"}
    kept = [p for p in problems if p.code == "literal_secret" or (p.file, p.line, p.column) not in secrets]
    return sorted(dict.fromkeys(kept), key=lambda p: (p.file, p.line, p.column, p.path))


def check_version(top: Node, problems: list[Problem]) -> bool:
    """Whether *top* is a file of a version this program reads; adds a problem otherwise."""
    node = top.items.get("version")
    if node is None:
        hint = f"write version: {VERSION} in the first line"
        problems.append(top.problem("version", "missing_key", "the option 'version' is required", hint))
        return False
    value = node.value
    if value == VERSION or (node.line == 0 and value == str(VERSION)):
        return True
    message = f"this program reads version {VERSION}"
    newer = isinstance(value, int) and not isinstance(value, bool) and value > VERSION
    hint = "the file was made for a newer Fairlead" if newer else f"write version: {VERSION}"
    problems.append(node.problem("version", "unsupported_version", message, hint))
    return False


def _root(top: Node, problems: list[Problem]) -> RootOptions | None:
    readable = check_version(top, problems)
    own = {key: node for key, node in top.items.items() if key in RootOptions.model_fields}
    if not readable:
        own["version"] = Node(top.file, top.line, top.column, VERSION)
    part = Node(top.file, top.line, top.column, own, None, top.keys)
    found: list[Problem] = []
    root = validate(RootOptions, part, (), found)
    problems += found
    if root is None and "site" in own:  # the tag maps can be checked as soon as the site's path is known
        wrong = {problem.path.partition(".")[0].partition("[")[0] for problem in found}
        site = own["site"]
        path = {key: node for key, node in site.items.items() if key == "path"}
        rest = {key: node for key, node in own.items() if key not in wrong}
        rest["site"] = Node(site.file, site.line, site.column, path)
        root = validate(RootOptions, Node(top.file, top.line, top.column, rest), (), [])
    return root


def _sources(top: Node, problems: list[Problem]) -> tuple[dict[str, SourceOptions], dict[str, str], set[str]]:
    sources: dict[str, SourceOptions] = {}
    kinds: dict[str, str] = {}
    broken: set[str] = set()
    holder = top.items.get("sources")
    if holder is None or holder.value in (None, {}):
        hint = f"kinds: {', '.join(sorted(REGISTRY))}"
        problems.append((holder or top).problem("sources", "missing_key", "at least one source is required", hint))
        return sources, kinds, broken
    node = _map(holder, "sources", problems)
    for name, entry in (node.items if node else {}).items():
        path = f"sources.{name}"
        if not NAME.match(str(name)):
            hint = "small letters, digits and _, a letter first"
            problems.append(holder.key_problem(name, path, "bad_value", f"{name!r} is not a name", hint))
        options = _source(entry, str(name), problems)
        if options is None:
            broken.add(str(name))
        else:
            kinds[str(name)], sources[str(name)] = options
    return sources, kinds, broken


def _source(entry: Node, name: str, problems: list[Problem]) -> tuple[str, SourceOptions] | None:
    node = _map(entry, f"sources.{name}", problems)
    if node is None:
        return None
    known = sorted(REGISTRY)
    kind = node.items.get("kind")
    if kind is None:
        problems.append(
            node.problem(f"sources.{name}.kind", "missing_key", "the option 'kind' is required", ", ".join(known))
        )
        return None
    spec = REGISTRY.get(str(kind.value))
    if spec is None:
        hint = nearest(kind.value, known) or f"one of {', '.join(known)}"
        problems.append(kind.problem(f"sources.{name}.kind", "bad_value", f"unknown kind {str(kind.value)!r}", hint))
        return None
    model: type[SourceOptions] = spec.options
    if "kind" not in model.model_fields:
        rest = {key: item for key, item in node.items.items() if key != "kind"}
        node = Node(node.file, node.line, node.column, rest, None, node.keys)
    options = validate(model, node, ("sources", name), problems)
    return None if options is None else (spec.kind, options)


def _map(node: Node, path: str, problems: list[Problem]) -> Node | None:
    if node.value is None:
        return Node(node.file, node.line, node.column, {}, None, {})
    if not isinstance(node.value, dict):
        problems.append(node.problem(path, "bad_value", "must be a map of options"))
        return None
    return node


def _anchored(store: StoreOptions, base_dir: Path) -> StoreOptions:
    """The store's options with the file of the password found from *base_dir*; the store knows ``data_dir`` only."""
    kind, _, name = (store.password or "").partition(":")
    return store.model_copy(update={"password": f"file:{base_dir / name}"}) if kind == "file" else store


def _missing_files(config: Config, top: Node) -> list[Problem]:
    """Certificate files of the API that are not there."""
    found = []
    tls: BaseModel | None = config.api.tls
    for name in type(tls).model_fields if tls is not None else ():
        path: Any = getattr(tls, name)
        if not (config.base_dir / path).is_file():
            node = top.at(("api", "tls", name))
            found.append(node.problem(f"api.tls.{name}", "bad_value", f"there is no file {path}"))
    return found
