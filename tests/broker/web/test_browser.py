"""The page in a real browser: what a plant engineer does in one shift."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from broker import commands
from schemas.anomaly import Anomaly
from schemas.entries import Position
from schemas.samples import Gap, GapCause
from schemas.status import BAD_SENSOR_FAILURE
from tests.broker.api.core import PASSWORD, Core, S, batch, bearing_wear, fill
from tests.broker.web.browser import Page, open_page

ITEM = f"[data-anomaly='{'a1' * 16}']"
DRAWN = "document.querySelectorAll('[data-trend=drawn] canvas').length"


@pytest.fixture
def page(core: Core, need: Callable[[str], str], tmp_path: Path) -> Iterator[Page]:
    """A tab with nothing in it; at the end no script has failed and no other host was asked."""
    with open_page(need("chromium"), tmp_path / "profile") as page:
        yield page
    assert [url for url in page.requests if not url.startswith((core.url, "about:", "data:"))] == []
    assert page.errors == []


def _sign_in(core: Core, page: Page, name: str = "a.moreau") -> None:
    page.goto(f"{core.url}/login")
    page.fill("[name=name]", name)
    page.fill("[name=password]", PASSWORD)
    page.press("Enter")
    page.wait("location.pathname === '/' && document.querySelector('#list') && document.readyState === 'complete'")


def _grow(core: Core, anomaly: Anomaly) -> None:
    core.write(lambda tx: tx.anomaly(anomaly.model_copy(update={"revision": anomaly.revision + 1})))


def _onset() -> int:
    return (time.time_ns() // S - 250) * S


def test_from_sign_in_to_released_documents(core: Core, page: Page, tmp_path: Path) -> None:
    """Sign in, open the anomaly, see trends, evidence and origin, approve, see the documents, sign out."""
    anomaly, *_ = bearing_wear(core, _onset())
    _sign_in(core, page)

    page.click(ITEM)
    page.wait(f"{DRAWN} === 3")
    assert anomaly.anomaly_id in page.evaluate("location.search")
    assert _inked(page) > 500
    assert "origin: rules" in page.text(".annotation h2")
    assert page.evaluate("document.querySelectorAll('.evidence tbody tr').length") >= 4
    page.screenshot(tmp_path / "detail.png")
    assert (tmp_path / "detail.png").stat().st_size > 20_000

    page.click("button[value=approved]")
    page.wait("document.querySelectorAll('.document').length === 2")
    assert page.text("[role=status]") == "Approved; 2 documents released."
    assert "a.moreau approved" in page.text(".review")
    page.wait(f"document.querySelector(\"{ITEM}\").innerText.includes('approved by a.moreau')")

    page.click(".bar button")
    page.wait("location.pathname === '/login'")
    page.goto(f"{core.url}/")
    page.wait("location.pathname === '/login'")


def test_shelving_from_the_page(core: Core, page: Page, tmp_path: Path) -> None:
    """The form opens, wants a reason, says when it takes effect, and leaves one command for acquire."""
    bearing_wear(core, _onset())
    _sign_in(core, page)
    page.click(ITEM)
    page.wait(f"{DRAWN} === 3")
    page.click(".suppress summary")
    page.wait("document.querySelector('.suppress details').open")
    page.click(".suppress details form button")
    assert page.evaluate("document.querySelector('.suppress [name=reason]').matches(':invalid')")
    page.fill(".suppress [name=reason]", "bearing is ordered")
    page.click(".suppress details form button")
    page.wait("document.querySelector('[role=status]')?.innerText.startsWith('Shelved')")

    (path,) = commands.waiting(core.services.config.data_dir)
    command = commands.read(path)
    assert (command.action, command.actor, command.reason) == ("shelve", "a.moreau", "bearing is ordered")
    assert (command.target.rsplit("/", 1)[-1], command.kind) == ("BearingTemp", "mean_shift")


def _inked(page: Page) -> int:
    """Pixels of the first trend that have the colour of the pen."""
    found: int = page.evaluate(
        """(() => { const c = document.querySelector('[data-trend=drawn] canvas');
        const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; let n = 0;
        for (let i = 0; i < d.length; i += 4) if (d[i] < 110 && d[i + 2] > 105 && d[i + 2] - d[i] > 30 && d[i + 3]) n++;
        return n; })()"""
    )
    return found


def test_line_is_broken_at_the_gap(core: Core, page: Page) -> None:
    """No pen colour lies in the columns of a gap, but on both sides of it."""
    onset = _onset()
    bearing_wear(core, onset)
    _sign_in(core, page)
    page.click(ITEM)
    page.wait(f"{DRAWN} === 3")

    inked: dict[str, int] = page.evaluate(
        f"""(() => {{ const f = document.querySelector('[data-trend=drawn]'), c = f.querySelector('canvas');
        const over = f.querySelector('.u-over').getBoundingClientRect(), box = c.getBoundingClientRect();
        const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data, found = {{}};
        const at = (s) => over.x - box.x + over.width * (({onset // S} + s) * 1000 - f.dataset.from)
            / (f.dataset.to - f.dataset.from);
        for (const [name, from, to] of [['before', -240, -205], ['gap', -200, -150], ['after', -140, -20]]) {{
            found[name] = 0;
            for (let x = Math.ceil(at(from)) + 2; x < at(to) - 2; x++) for (let y = 0; y < c.height; y++) {{
                const i = 4 * (y * c.width + x);
                if (d[i] < 110 && d[i + 2] > 105 && d[i + 2] - d[i] > 30 && d[i + 3]) found[name]++;
            }}
        }}
        return found; }})()"""
    )
    assert inked["gap"] == 0
    assert inked["before"] > 10
    assert inked["after"] > 10


def test_words_of_many_gaps_do_not_lie_upon_each_other(core: Core, page: Page) -> None:
    """Of forty short gaps those are named that have room; of each what is named stands alone."""
    onset = _onset()
    bearing_wear(core, onset)
    gaps = [
        Gap("pumps", (), onset - 280 * S + i * 5 * S, onset - 278 * S + i * 5 * S, GapCause.LINK_DOWN)
        for i in range(40)
    ]
    core.write(lambda tx: [tx.gap(gap, Position(1, 1)) for gap in gaps])
    _sign_in(core, page)
    page.evaluate(
        """(() => { window.said = new Map(); const own = CanvasRenderingContext2D.prototype.fillText;
        CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
            if (text === 'link down') {
                if (!said.has(this.canvas)) said.set(this.canvas, []);
                said.get(this.canvas).push([x, x + this.measureText(text).width]);
            }
            return own.call(this, text, x, y); }; return true; })()"""
    )
    page.click(ITEM)
    page.wait(f"{DRAWN} === 3")

    drawn: list[list[list[float]]] = page.evaluate("[...said.values()]")
    assert len(drawn) == 3
    for spans in drawn:
        apart = sorted(set(map(tuple, spans)))
        assert 2 <= len(apart) < 40
        assert all(left[1] < right[0] for left, right in pairwise(apart))


def test_trend_of_bad_samples_says_that_they_are_bad(core: Core, page: Page) -> None:
    """What was stored and cannot be drawn is told apart from what was never there."""
    tag_map = fill(core, 0)
    at = [_onset() + i * S for i in range(9)]
    core.write(lambda tx: tx.records(batch(tag_map, [0] * 9, at, [math.nan] * 9, status=[BAD_SENSOR_FAILURE] * 9)))
    _sign_in(core, page)

    said = []
    for path in (tag_map.tags[0].path, tag_map.tags[1].path):
        span = f"data-from='{at[0] // 10**6}' data-to='{at[-1] // 10**6 + 1000}'"
        figure = f"<figure data-path='{path}' {span}><div class='plot'></div></figure>"
        page.evaluate(f"document.body.insertAdjacentHTML('afterbegin', `{figure}`); true")
        page.evaluate("fairleadTrend.draw(document.querySelector('figure')); true")
        page.wait("document.querySelector('figure').dataset.trend === 'empty'")
        said.append(page.text("figure .plot"))
    assert said == ["All 9 samples of this time are bad.", "No samples are kept for this time."]


def test_refresh_keeps_what_the_person_does(core: Core, page: Page) -> None:
    """The list refreshes under an open form: text, open part, scroll position and choice stay; the page says newer."""
    anomaly, *_ = bearing_wear(core, _onset())
    for number in range(40):
        other = anomaly.model_copy(update={"anomaly_id": f"{number:032x}"})
        core.write(lambda tx, other=other: tx.anomaly(other))  # type: ignore[misc]
    _sign_in(core, page)
    page.click(ITEM)
    page.wait(f"{DRAWN} === 3")
    page.press("r")
    assert page.evaluate("document.activeElement.name") == "reason"
    page.fill("[name=comment]", "half a sent")
    page.evaluate("document.querySelector('.list').scrollTop = 300")
    page.evaluate("window.kept = document.querySelector('[data-detail]')")
    assert page.evaluate("document.querySelector('.newer').hidden")

    _grow(core, anomaly)

    page.wait("!document.querySelector('.newer').hidden")
    assert page.evaluate("window.kept === document.querySelector('[data-detail]')")
    assert page.evaluate("document.querySelector('[name=comment]').value") == "half a sent"
    assert page.evaluate("document.querySelector('.review details').open")
    assert page.evaluate("document.querySelector('.list').scrollTop") == 300
    page.wait(f'document.querySelector("{ITEM}").classList.contains("chosen")')

    page.click(".newer button")
    page.wait("window.kept !== document.querySelector('[data-detail]') && document.querySelector('.newer').hidden")


def test_keys_choose_and_decide(core: Core, page: Page) -> None:
    """Keys walk through the list as fast as they come, lead to the decision, and only a second key takes it."""
    anomaly, *_ = bearing_wear(core, _onset())
    for name in ("b2", "c3"):
        core.write(lambda tx, name=name: tx.anomaly(anomaly.model_copy(update={"anomaly_id": name * 16})))  # type: ignore[misc]
    _sign_in(core, page)

    def shows(anomaly_id: str) -> None:
        page.wait(f"document.querySelector('[data-detail=\"{anomaly_id}\"]')")

    page.press("j")
    shows("c3" * 16)
    page.press("j")
    page.press("j")
    page.press("j")
    shows(anomaly.anomaly_id)
    page.press("k")
    shows("b2" * 16)
    page.press("j")
    page.wait("document.querySelector('.review form')")
    page.press("e")
    assert page.evaluate("document.activeElement.name") == "cause_id"
    page.press("Escape")
    page.press("a")
    assert page.evaluate("document.activeElement.value") == "approved"
    assert core.store.reader().reviews_of(anomaly.anomaly_id) == []
    page.press("Enter")
    page.wait("document.querySelectorAll('.document').length === 2")
    # htmx writes the requests that a faster key made needless to the console
    page.errors = [error for error in page.errors if not error.startswith(("htmx:afterRequest", "htmx:sendAbort"))]


def test_session_that_is_over_leads_to_the_form(core: Core, page: Page) -> None:
    """An idle page does not stay open with what was on it."""
    bearing_wear(core, _onset())
    _sign_in(core, page)
    core.clock.s += 901
    page.wait("location.pathname === '/login'")
    page.errors = [error for error in page.errors if "401" not in error]


def test_store_that_does_not_answer_is_said(core: Core, page: Page) -> None:
    """The page keeps what it shows and says that it may be old; when the store is back the line goes."""
    bearing_wear(core, _onset())
    _sign_in(core, page)
    core.store._read.dispose()
    path = core.services.config.data_dir / "store.db"
    path.rename(path.with_suffix(".moved"))
    path.mkdir()
    try:
        page.wait("!document.querySelector('#notice').hidden")
        assert page.text("#notice") == "The store cannot answer now; what you see may be old."
        assert page.evaluate(f'Boolean(document.querySelector("{ITEM}"))')
    finally:
        path.rmdir()
        path.with_suffix(".moved").rename(path)
    page.wait("document.querySelector('#notice').hidden")
    page.errors = [error for error in page.errors if "503" not in error and "Response Status Error" not in error]


def test_hostile_tag_is_drawn_and_not_run(core: Core, page: Page) -> None:
    """A tag called <script> has its trend like any other."""
    tag_map = fill(core, 0)
    anomaly, *_ = bearing_wear(core, _onset())
    odd = next(tag for tag in tag_map.tags if "<script>" in tag.path)
    member = anomaly.members[0].model_copy(update={"path": odd.path, "tag_id": odd.id})
    core.write(lambda tx: tx.anomaly(anomaly.model_copy(update={"revision": 3, "members": (member, *anomaly.members)})))
    page.call("Page.addScriptToEvaluateOnNewDocument", source="window.alert = () => { window.ran = true; };")
    _sign_in(core, page)

    page.click(ITEM)
    page.wait(f"{DRAWN} === 3 && document.querySelector('[data-trend=empty]')")

    assert page.text("[data-trend=empty] figcaption").startswith("script>") or "script" in page.text("figcaption")
    assert not page.evaluate("window.ran")
    assert page.evaluate("document.querySelectorAll('#detail script, #list script').length") == 0


@pytest.mark.parametrize("width", [1366, 1920, 800])
def test_nothing_sticks_out(core: Core, page: Page, width: int) -> None:
    """At usual widths the page needs no sideways scrolling, and at 1366x768 the buttons are in sight."""
    bearing_wear(core, _onset())
    page.size(width, 768)
    _sign_in(core, page)
    page.click(ITEM)
    page.wait(f"{DRAWN} === 3")

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(
        "document.querySelector('#detail').scrollWidth <= document.querySelector('#detail').clientWidth"
    )
    if width == 1366:
        assert page.evaluate("document.querySelector('button[value=approved]').getBoundingClientRect().bottom") < 768
