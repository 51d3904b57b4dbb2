"""Files of the pages: nothing from elsewhere, nothing inline, vendored files as published."""

from __future__ import annotations

import hashlib
import json
import re
from importlib.resources import files
from pathlib import Path

import pytest

WEB = Path(str(files("broker.web")))
VENDOR = WEB / "static" / "vendor"
TEMPLATES = sorted((WEB / "templates").glob("*.html"))
OWN = [*TEMPLATES, *sorted(p for p in (WEB / "static").iterdir() if p.is_file())]
#: Names of XML languages; nobody asks these hosts for anything.
NAMESPACES = re.compile(r"http://www\.w3\.org/(2000/svg|1999/xlink|1999/xhtml)")


def _id(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("path", [*OWN, *sorted(VENDOR.glob("*.min.*"))], ids=_id)
def test_no_address_of_another_host(path: Path) -> None:
    """An air-gapped browser has nobody to ask: no page or file names another host."""
    text = NAMESPACES.sub("", re.sub(r"/\*.*?\*/", "", path.read_text("utf-8"), flags=re.DOTALL))
    assert re.findall(r"(?:https?:|wss?:)?//[a-z0-9-]+(?:\.[a-z0-9-]+)+", text, re.IGNORECASE) == []


@pytest.mark.parametrize("path", TEMPLATES, ids=_id)
def test_no_inline_script_or_style(path: Path) -> None:
    """The content security policy forbids them, and so do we."""
    text = path.read_text("utf-8")
    assert re.findall(r"<script(?![^>]*\bsrc=)[^>]*>", text) == []
    assert re.findall(r"<style|\sstyle\s*=|\son[a-z]+\s*=|javascript:|hx-on|hx-vals=.js", text, re.IGNORECASE) == []


@pytest.mark.parametrize("path", TEMPLATES, ids=_id)
def test_nothing_bypasses_the_escaping(path: Path) -> None:
    """No template marks a text as safe."""
    assert re.findall(r"\|\s*safe\b|autoescape|Markup", path.read_text("utf-8")) == []


@pytest.mark.parametrize("path", [p for p in OWN if p.suffix == ".js"], ids=_id)
def test_script_builds_no_html(path: Path) -> None:
    """Texts of devices and models reach the page as text only."""
    forbidden = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function"
    assert re.findall(forbidden, path.read_text("utf-8")) == []


def test_vendored_files_are_those_of_vendor_json() -> None:
    """Each file has the listed sha256, each library its licence, and nothing else lies there."""
    entries = json.loads((VENDOR / "vendor.json").read_text("utf-8"))
    listed = {name: digest for entry in entries for name, digest in entry["files"].items()}

    for name, digest in listed.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest
    licences = {path.name for path in VENDOR.glob("*.LICENSE")}
    assert {path.name for path in VENDOR.iterdir()} == {*listed, *licences, "vendor.json"}
    assert len(licences) == len(entries)
    for entry in entries:
        assert {"name", "version", "licence", "integrity", "files"} <= entry.keys()
        assert entry["integrity"].startswith("sha512-")


def test_pages_are_small() -> None:
    """Everything a browser loads stays below 140 KB."""
    loaded = [path for path in [*OWN, *VENDOR.glob("*.min.*")] if path.suffix in {".js", ".css"}]
    assert sum(path.stat().st_size for path in loaded) < 140_000
