"""``fairlead user``: people who may sign in; through the running core if there is one, else with the store's lock."""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any, Final

import typer

from broker.cli.core_access import ask_core
from broker.cli.output import DEFAULT_CONFIG, ConfigOption, Output, OutputOption, print_rows
from schemas.errors import Refused

app = typer.Typer(no_args_is_help=True, help="People who may sign in.")
#: As the API requires it.
_NAME: Final = re.compile(r"^[a-z][a-z0-9_.-]{0,63}$")


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Small letters, digits and _ . -, a letter first.")],
    role: Annotated[list[str], typer.Option(help="consumer, integrator, engineer, auditor or admin; may be repeated.")],
    config: ConfigOption = DEFAULT_CONFIG,
    password_stdin: Annotated[bool, typer.Option("--password-stdin", help="Read the password from stdin.")] = False,
) -> None:
    """Add a person, or give a new password and roles to one."""
    from broker.api.accounts import check_roles, hash_password
    from broker.config import load_config

    if not _NAME.match(name):
        raise typer.BadParameter("small letters, digits and _ . -, a letter first", param_hint="NAME")
    try:
        roles = check_roles(role)
    except Refused as error:
        raise typer.BadParameter(str(error), param_hint="--role") from None
    settings = load_config(config)
    password = _password(name, from_stdin=password_stdin)
    hashed = hash_password(password)
    body = {"name": name, "roles": list(roles), "password": password}
    if ask_core(settings, "POST", "/api/v1/users", body) is None:
        from broker.cli.store_access import writing

        with writing(settings) as store, store.transaction() as transaction:
            transaction.put_user(name, roles, hashed)
            transaction.audit("command line", "user_put", name, {"roles": list(roles)})
    typer.echo(f"{name} may sign in as {', '.join(roles)}")


@app.command(name="list")
def list_users(config: ConfigOption = DEFAULT_CONFIG, output: OutputOption = Output.TABLE) -> None:
    """Print who may sign in."""
    from broker.cli.store_access import reading

    with reading(config) as (_, reader):
        users = reader.users()
    if output is Output.JSON:
        rows: list[dict[str, Any]] = [{"name": u.name, "roles": list(u.roles), "disabled": u.disabled} for u in users]
    else:
        rows = [{"name": u.name, "roles": ", ".join(u.roles), "state": "disabled" if u.disabled else ""} for u in users]
    print_rows(output, ("name", "roles", "state"), rows, empty="nobody may sign in; add someone with fairlead user add")


def _password(name: str, *, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise typer.BadParameter("there is no terminal to ask for the password; use --password-stdin")
    answer: str = typer.prompt(f"Password of {name}", hide_input=True, confirmation_prompt=True)
    return answer
