"""Requests of commands to the core that runs on this machine."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from schemas.errors import FairleadError, Refused

if TYPE_CHECKING:
    from broker.config import Config

_TIMEOUT_S: Final = 10.0


def ask_core(config: Config, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """
    The running core's answer, or None when no core runs.

    ``core.json`` says where it is. Raises Refused with the core's reason, FairleadError when it cannot answer.
    """
    access = _access(config.data_dir / "core.json")
    if access is None:
        return None
    url, token = access
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, headers, method=method)  # noqa: S310 - ours
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), *_tls(config))
    try:
        with opener.open(request, timeout=_TIMEOUT_S) as answer:
            found: dict[str, Any] = json.load(answer)
            return found
    except urllib.error.HTTPError as error:
        raise Refused(_reason(error)) from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ConnectionRefusedError):
            return None  # a core that was killed leaves its file behind
        raise FairleadError(f"the running core does not answer: {error.reason}") from None
    except (OSError, ValueError) as error:
        raise FairleadError(f"the running core does not answer: {error}") from None


def _access(path: Path) -> tuple[str, str] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return str(content["url"]), str(content["token"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise FairleadError(f"{path} cannot be read; remove it if no core runs") from None


def _tls(config: Config) -> list[urllib.request.HTTPSHandler]:
    tls = config.api.tls
    if tls is None:
        return []
    context = ssl.create_default_context(cafile=str(config.base_dir / tls.cert))
    # of a certificate that an authority signed we have no other than itself
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.check_hostname = False  # the file is ours and names the very certificate; the address may be any of ours
    return [urllib.request.HTTPSHandler(context=context)]


def _reason(error: urllib.error.HTTPError) -> str:
    try:
        detail = json.loads(error.read(65536)).get("detail")
    except (ValueError, AttributeError, OSError):
        detail = None
    match detail:
        case str() if detail:
            return detail
        case [{"where": _, "message": _}, *_]:  # 422: every parameter that cannot be taken
            return "; ".join(f"{one['where']}: {one['message']}" for one in detail)
    return f"core answered {error.code} {HTTPStatus(error.code).phrase}"
