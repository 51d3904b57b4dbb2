"""People and their passwords: argon2id, lock-out after failures, the same answer for every kind of failure."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal, get_args

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from broker.store.rows.people import UserRow
from schemas.errors import Refused

Role = Literal["consumer", "integrator", "engineer", "auditor", "admin"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
MIN_PASSWORD: Final = 10
#: A verified password of a machine that signs every request is believed so long without hashing again.
BASIC_CACHE_S: Final = 300.0
MAX_REMEMBERED: Final = 1000

_hasher = PasswordHasher()
#: Verified against when the name is unknown, so that a wrong name takes as long as a wrong password.
_NOBODY: Final = _hasher.hash(secrets.token_urlsafe(16))


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who is signed in."""

    name: str
    roles: frozenset[Role]


def hash_password(password: str) -> str:
    """
    Argon2id hash of a new password.

    Raises:
        Refused: shorter than ten characters.
    """
    if len(password) < MIN_PASSWORD:
        raise Refused(f"a password has at least {MIN_PASSWORD} characters")
    return _hasher.hash(password)


def _fits(password_hash: str, password: str) -> bool:
    try:
        return _hasher.verify(password_hash, password)
    except (Argon2Error, InvalidHashError):
        return False


def check_roles(roles: Iterable[str]) -> tuple[Role, ...]:
    """
    The roles, sorted, without repeats.

    Raises:
        Refused: there is none, or one is not a role.
    """
    wanted = sorted(set(roles))
    known = {role: role for role in ROLES}
    if not wanted:
        raise Refused(f"name at least one role of {', '.join(ROLES)}")
    for role in wanted:
        if role not in known:
            raise Refused(f"{role!r} is not a role; roles are {', '.join(ROLES)}")
    return tuple(role for role in ROLES if role in wanted)


class LockedOut(Refused):
    """Too many failed attempts for this name; nothing was looked at."""


class Accounts:
    """
    Signs people in. Thread-safe.

    *noted* is called with a name and ``sign_in_failed`` or ``locked_out`` after each failure, never while a name is
    locked out, so that a flood of attempts cannot fill the audit.
    """

    def __init__(
        self,
        find: Callable[[str], UserRow | None],
        *,
        failures: int,
        pause_s: float,
        noted: Callable[[str, str], None],
        mono_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find = find
        self._noted = noted
        self._failures = failures
        self._pause_s = pause_s
        self._mono_s = mono_s
        self._lock = threading.Lock()
        self._failed: dict[str, list[float]] = {}
        self._basic: dict[bytes, tuple[float, str]] = {}
        self._cache_key = secrets.token_bytes(32)

    def sign_in(self, name: str, password: str) -> Person:
        """
        Check a password.

        Raises:
            LockedOut: this name has failed too often.
            Refused: unknown name, wrong password or disabled, one text for all.
        """
        user = self._find(name)
        self._reserve(name)
        fits = _fits(user.password_hash if user is not None else _NOBODY, password)
        if user is None or user.disabled or not fits:
            with self._lock:
                locked = len(self._failed.get(name, ())) >= self._failures
            self._noted(name, "locked_out" if locked else "sign_in_failed")
            raise Refused("name or password is wrong")
        with self._lock:
            self._failed.pop(name, None)
        return Person(user.name, frozenset(check_roles(user.roles)))

    def _reserve(self, name: str) -> None:
        """Count the attempt before the password is looked at, so that many at once are not more than allowed."""
        now = self._mono_s()
        with self._lock:
            recent = [t for t in self._failed.get(name, []) if now - t < self._pause_s]
            if len(recent) >= self._failures:
                raise LockedOut(f"too many failed attempts; wait {max(1, round(self._pause_s / 60))} minutes")
            self._failed[name] = [*recent, now]
            if len(self._failed) > MAX_REMEMBERED:
                del self._failed[min(self._failed, key=lambda key: self._failed[key][-1])]

    def sign_in_basic(self, name: str, password: str) -> Person:
        """Like :meth:`sign_in`, for machines that send the password with every request."""
        user = self._find(name)
        stored = user.password_hash if user is not None else ""
        key = hmac.digest(self._cache_key, f"{name}\0{password}\0{stored}".encode(), "sha256")
        now = self._mono_s()
        with self._lock:
            until, _ = self._basic.get(key, (0.0, ""))
        if user is not None and not user.disabled and now < until:
            return Person(user.name, frozenset(check_roles(user.roles)))
        person = self.sign_in(name, password)
        with self._lock:
            if len(self._basic) > MAX_REMEMBERED:
                self._basic.clear()
            self._basic[key] = (now + BASIC_CACHE_S, name)
        return person


class Sessions:
    """Signed-in browsers, in memory: a restart of the core signs everybody out. Thread-safe."""

    def __init__(self, *, idle_s: float, absolute_s: float, mono_s: Callable[[], float] = time.monotonic) -> None:
        self.idle_s = idle_s
        self.absolute_s = absolute_s
        self._mono_s = mono_s
        self._lock = threading.Lock()
        self._open: dict[str, tuple[Person, float, float]] = {}

    def open(self, person: Person) -> str:
        """A new session's token, 256 bit; only its hash is kept."""
        token = secrets.token_urlsafe(32)
        now = self._mono_s()
        with self._lock:
            if len(self._open) >= MAX_REMEMBERED:
                self._open.pop(min(self._open, key=lambda key: self._open[key][2]))
            self._open[_digest(token)] = (person, now, now)
        return token

    def find(self, token: str, *, use: Literal["active", "passive"] = "active") -> Person | None:
        """
        Who holds the session, or None when it is unknown, idle too long or too old.

        A ``passive`` use, such as a page that refreshes itself, does not keep the session alive.
        """
        now, key = self._mono_s(), _digest(token)
        with self._lock:
            found = self._open.get(key)
            if found is None:
                return None
            person, opened, used = found
            if now - used > self.idle_s or now - opened > self.absolute_s:
                del self._open[key]
                return None
            if use == "active":
                self._open[key] = (person, opened, now)
            return person

    def close(self, token: str) -> None:
        """Sign out; an unknown token is no error."""
        with self._lock:
            self._open.pop(_digest(token), None)

    def close_all(self, name: str) -> None:
        """Sign a person out everywhere, after a change of password or roles."""
        with self._lock:
            self._open = {key: value for key, value in self._open.items() if value[0].name != name}


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
