"""What asyncua raises, sorted by what it means, and how it is told to people."""

from __future__ import annotations

import struct
from typing import Final

from asyncua import ua
from cryptography.exceptions import InvalidSignature

#: What asyncua raises when a peer goes away, refuses or sends nonsense.
LINK_ERRORS: Final = (OSError, TimeoutError, ua.UaError, InvalidSignature, struct.error, ValueError)

#: What asyncua raises for a body that it cannot decode (A8), a status code of the server's among them.
DECODE_ERRORS: Final = (
    ua.UaError,
    struct.error,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
)

_HINTS: Final = {
    ua.StatusCodes.BadUserAccessDenied: "check user.name and user.password",
    ua.StatusCodes.BadIdentityTokenRejected: "check user.name and user.password, or whether anonymous is allowed",
    ua.StatusCodes.BadIdentityTokenInvalid: "the server does not take this kind of user; check `user`",
    ua.StatusCodes.BadSecurityChecksFailed: "let the server trust our certificate",
    ua.StatusCodes.BadCertificateUntrusted: "let the server trust our certificate",
    ua.StatusCodes.BadCertificateUriInvalid: "`application_uri` and our certificate differ; look at fairlead trust own",
    ua.StatusCodes.BadSecurityPolicyRejected: "choose a security that the server offers",
    ua.StatusCodes.BadSecurityModeRejected: "choose a security that the server offers",
    ua.StatusCodes.BadTooManySessions: "the server has no free session; close another client, or wait "
    "until sessions that nobody closed have timed out",
    ua.StatusCodes.BadTcpEndpointUrlInvalid: "the path of the endpoint is wrong",
    ua.StatusCodes.BadTooManySubscriptions: "the server has no free subscription; raise subscription.nodes",
}


def describe(error: BaseException) -> str:
    """An error as a sentence part: the status name and what to do, or the system's own words."""
    if isinstance(error, ua.UaStatusCodeError):
        hint = _HINTS.get(error.code)
        title = ua.StatusCode(error.code).name
        return f"{title}: {hint}" if hint else title
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__
