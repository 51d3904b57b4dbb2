"""The templates: everything put into them is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from fastapi import Request, Response
from starlette.templating import Jinja2Templates

from broker.version import VERSION

if TYPE_CHECKING:
    from broker.api.services import Services

_environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(str(files("broker.web") / "templates"))),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates = Jinja2Templates(env=_environment)


def render(
    request: Request,
    template: str,
    context: Mapping[str, Any],
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A template with *context*, the site, its time zone and the person who is signed in."""
    services: Services = request.app.state.services
    site = services.config.site
    base = {
        "site": site.path,
        "zone": site.timezone,
        "person": getattr(request.state, "person", None),
        "version": VERSION,
    }
    return _templates.TemplateResponse(request, template, base | dict(context), status_code=status, headers=headers)
