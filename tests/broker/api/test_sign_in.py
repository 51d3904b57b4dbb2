"""Sign-in, sessions, lock-out, accounts."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from broker.api.access import COOKIE
from broker.api.accounts import Accounts, LockedOut, check_roles, hash_password
from broker.store.rows.people import UserRow
from schemas.errors import Refused, StoreError
from tests.broker.api.core import PASSWORD, PEOPLE, TOKEN, Clock, Core, password_hash

LOCAL = {"Authorization": f"Bearer {TOKEN}"}


def _sign_in(core: Core, name: str = "a.moreau", password: str = PASSWORD) -> httpx.Response:
    return core.client.post("/login", data={"name": name, "password": password}, headers={"Origin": core.url})


def _actions(core: Core) -> list[tuple[str, str]]:
    rows = core.client.get("/api/v1/audit", headers=LOCAL).json()["audit"]
    return [(row["actor"], row["action"]) for row in reversed(rows)]


def _page(core: Core) -> int:
    return core.client.get("/").status_code


def test_sign_in_gives_a_strict_cookie_and_is_audited(core: Core) -> None:
    """The cookie is HttpOnly and SameSite=Strict, opens the page, and both ends of the session are in the audit."""
    assert _page(core) == 401

    answer = _sign_in(core)

    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Max-Age=28800" in cookie
    assert _page(core) == 200

    assert core.client.post("/logout", headers={"Origin": core.url}).headers["location"] == "/login"
    assert _page(core) == 401
    assert _actions(core) == [("a.moreau", "signed_in"), ("a.moreau", "signed_out")]


def test_sign_out_ends_the_session_itself(core: Core) -> None:
    """A copied cookie is worth nothing after the sign-out."""
    _sign_in(core)
    token = core.client.cookies[COOKIE]
    core.client.post("/logout", headers={"Origin": core.url})
    core.client.cookies.set(COOKIE, token)

    assert _page(core) == 401


def test_idle_session_ends(core: Core) -> None:
    """Each request of a person lengthens the session; 15 minutes without one end it."""
    _sign_in(core)
    for _ in range(3):
        core.clock.s += 890
        assert _page(core) == 200
    core.clock.s += 901
    assert _page(core) == 401


def test_refreshing_list_does_not_keep_a_session_alive(core: Core) -> None:
    """The open page asks for its list every two seconds; the person may have gone home."""
    _sign_in(core)
    for _ in range(3):
        core.clock.s += 299
        assert core.client.get("/ui/anomalies").status_code == 200
    core.clock.s += 299
    assert core.client.get("/ui/anomalies").status_code == 401


def test_session_ends_after_eight_hours_in_any_case(core: Core) -> None:
    """An ever busy session ends too."""
    _sign_in(core)
    for _ in range(32):
        core.clock.s += 899
        assert _page(core) == 200
    core.clock.s += 899
    assert _page(core) == 401


def test_five_failures_lock_a_name_for_a_quarter_of_an_hour(core: Core) -> None:
    """The sixth attempt is refused even with the right password; other names and the time after are not."""
    for _ in range(5):
        assert "name or password is wrong" in _sign_in(core, password="guess").text
    locked = _sign_in(core)
    assert locked.status_code == 401
    assert "too many failed attempts; wait 15 minutes" in locked.text
    assert core.client.get("/api/v1/records", auth=("a.moreau", PASSWORD)).status_code == 401
    assert _sign_in(core, "i.kaya").status_code == 303

    core.clock.s += 901
    assert _sign_in(core).status_code == 303
    failed = [("a.moreau", "sign_in_failed")] * 4
    assert _actions(core)[:5] == [*failed, ("a.moreau", "locked_out")]


def test_flood_on_a_locked_name_does_not_fill_the_audit(core: Core) -> None:
    """The audit names the lock-out once, whatever comes afterwards."""
    for _ in range(25):
        _sign_in(core, password="guess")
    assert len(_actions(core)) == 5


def test_success_forgets_failures(core: Core) -> None:
    """Four failures, a success and four failures lock nobody out."""
    for _ in range(2):
        for _ in range(4):
            _sign_in(core, password="guess")
        assert _sign_in(core).status_code == 303


def test_unknown_name_wrong_password_and_disabled_look_the_same(core: Core) -> None:
    """The answer does not tell which names exist."""
    core.write(lambda tx: tx.disable_user("mes"))

    answers = [_sign_in(core, "nobody"), _sign_in(core, "a.moreau", "wrong"), _sign_in(core, "mes")]

    assert {answer.status_code for answer in answers} == {401}
    texts = {re.sub(r'value="[^"]*"', "", answer.text) for answer in answers}
    assert len(texts) == 1
    assert "name or password is wrong" in texts.pop()
    basic = [core.client.get("/api/v1/records", auth=(name, "wrong")).json() for name in ("nobody", "i.kaya", "mes")]
    assert basic == [{"detail": "name or password is wrong"}] * 3


def test_basic_signs_each_request(core: Core) -> None:
    """A machine sends its password with every request, and gets no cookie; a disabled one is refused at once."""
    for _ in range(3):
        answer = core.client.get("/api/v1/records", auth=("mes", PASSWORD))
        assert answer.status_code == 200
        assert "set-cookie" not in answer.headers
    core.write(lambda tx: tx.disable_user("mes"))
    assert core.client.get("/api/v1/records", auth=("mes", PASSWORD)).status_code == 401


def test_changed_roles_close_the_sessions_of_that_name(core: Core) -> None:
    """New roles or a new password count from the next sign-in; other people stay signed in."""
    first, other = core.as_role("engineer", name="a.moreau"), core.as_role("engineer", name="b.petit")
    body = {"name": "a.moreau", "roles": ["auditor"], "password": PASSWORD}

    assert core.client.post("/api/v1/users", json=body, headers=LOCAL).json() == {
        "name": "a.moreau",
        "roles": ["auditor"],
    }

    assert first.get("/ui/anomalies").status_code == 401
    assert other.get("/ui/anomalies").status_code == 200


def test_disabling_a_person_closes_the_sessions(core: Core) -> None:
    """A disabled person is out at once and cannot come back; a new password enables the entry again."""
    admin, person = core.as_role("admin", name="root"), core.as_role("engineer", name="a.moreau")

    assert admin.post("/api/v1/users/a.moreau/disable").json() == {"name": "a.moreau", "disabled": True}

    assert person.get("/ui/anomalies").status_code == 401
    assert _sign_in(core).status_code == 401
    assert admin.post("/api/v1/users/nobody/disable").status_code == 404
    assert admin.post("/api/v1/users/root/disable").json()["detail"] == "you cannot disable yourself"
    body = {"name": "a.moreau", "roles": ["engineer"], "password": PASSWORD}
    assert admin.post("/api/v1/users", json=body).status_code == 200
    assert _sign_in(core).status_code == 303


def test_users_are_listed_without_their_hashes(core: Core) -> None:
    """No answer holds a password or its hash."""
    answer = core.as_role("admin").get("/api/v1/users")

    assert {row["name"]: tuple(row["roles"]) for row in answer.json()["users"]} == PEOPLE
    everything = answer.text + core.as_role("auditor").get("/api/v1/audit").text
    everything += core.as_role("admin").get("/api/v1/openapi.json").text
    assert "argon2" not in everything
    assert password_hash() not in everything
    assert PASSWORD not in everything


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        ({"password": "short"}, 409, "at least 10 characters"),
        ({"roles": ["king"]}, 409, "'king' is not a role"),
        ({"roles": []}, 422, "roles"),
        ({"name": "Big Letters"}, 422, "name"),
        ({"password_hash": "x"}, 422, "Extra inputs"),
    ],
)
def test_user_that_cannot_be(core: Core, change: dict[str, object], status: int, text: str) -> None:
    """A refused entry says why and changes nothing; the answer never repeats the password."""
    body = {"name": "n.ew", "roles": ["consumer"], "password": "pass phrase never shown"} | change

    answer = core.as_role("admin").post("/api/v1/users", json=body)

    assert answer.status_code == status
    assert text in answer.text
    assert "never shown" not in answer.text
    assert len(core.as_role("admin").get("/api/v1/users").json()["users"]) == len(PEOPLE)


def test_many_guesses_at_once_are_not_more_than_allowed() -> None:
    """Attempts count before the password is looked at, so that parallel ones cannot slip through."""
    noted: list[str] = []
    user = UserRow("a", ("engineer",), password_hash(), False)
    accounts = Accounts(lambda _: user, failures=3, pause_s=60, noted=lambda _, action: noted.append(action))

    def guess(_: int) -> str:
        try:
            accounts.sign_in("a", "guess")
        except LockedOut:
            return "locked"
        except Refused:
            return "wrong"
        return "in"

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(guess, range(16)))

    assert results.count("wrong") == 3
    assert results.count("locked") == 13
    assert "locked_out" in noted


def test_store_that_cannot_be_read_locks_nobody_out() -> None:
    """A look-up that fails is no failed attempt."""
    broken = True
    user = UserRow("a", ("engineer",), password_hash(), False)

    def find(_: str) -> UserRow:
        if broken:
            raise StoreError("disk is full")
        return user

    accounts = Accounts(find, failures=1, pause_s=60, noted=lambda *_: None, mono_s=Clock())
    for _ in range(3):
        with pytest.raises(StoreError):
            accounts.sign_in("a", PASSWORD)
    broken = False
    assert accounts.sign_in("a", PASSWORD).name == "a"


def test_passwords_are_hashed_with_argon2id() -> None:
    """The stored form is argon2id with a salt of its own."""
    first, second = hash_password(PASSWORD), password_hash()
    assert first.startswith("$argon2id$")
    assert first != second


def test_roles_are_checked() -> None:
    """Roles come back in the order of the table, once each; none and unknown ones are refused."""
    assert check_roles(["engineer", "consumer", "engineer"]) == ("consumer", "engineer")
    with pytest.raises(Refused, match="at least one"):
        check_roles([])
