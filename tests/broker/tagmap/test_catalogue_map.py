"""The site's own causes and actions: from the map file to evidence, and every mistake with its place."""

from __future__ import annotations

from collections.abc import Callable

from broker import tagmap
from broker.catalogue import catalogue
from broker.config import Config
from schemas.tagmap import TagMap

Site = Callable[..., Config]
MAP = """\
version: 1
tags:
  - {path: Acme/Lyon/P101/Flow, source: plc1, address: "40001", type: uint16, unit: "1"}
equipment:
  - {path: Acme/Lyon/P101, class: %s}
"""
LEAK = """\
catalogue:
  - class: %s
    without: [%s]
    actions: {check_seal: Check the shaft seal}
    causes:
      seal_leak: {text: Leaking seal, mechanism: "1.1 Leakage", signs: {"*flow*": fell}, actions: [check_seal, %s]}
"""


def test_a_shipped_class_is_extended(site: Site) -> None:
    """The site's cause joins the shipped ones, one of them goes, and the whole travels with the map."""
    plain = tagmap.load(site(a__yaml=MAP % "centrifugal_pump"))
    text = MAP % "centrifugal_pump" + LEAK % ("centrifugal_pump", "impeller_wear", "check_suction")
    found = tagmap.load(site(a__yaml=text))
    made = found.catalogue_of("centrifugal_pump")
    assert made is not None
    shipped = [option.id for option in catalogue("centrifugal_pump").causes if option.id != "impeller_wear"]
    assert [option.id for option in made.causes] == [*shipped, "seal_leak"]
    assert "check_seal" in {action.id for action in made.actions}
    assert TagMap.from_body(found.body) == found
    assert found.revision != plain.revision
    assert plain.catalogues == ()
    assert b"catalogues" not in plain.body


def test_a_class_of_the_site_begins_with_what_any_tag_can_show(site: Site) -> None:
    """A class that is not shipped has the generic causes and its own."""
    found = tagmap.load(site(a__yaml=MAP % "mixer" + LEAK % ("mixer", "sensor_spikes", "inspect")))
    made = found.catalogue_of("mixer")
    assert made is not None
    assert [option.id for option in made.causes] == ["sensor_stuck", "no_signal", "seal_leak"]
    assert found.catalogue_of("pump") is None


def test_too_many_causes_are_told(site: Site) -> None:
    """A model is shown so many; more are an error, not a cut."""
    causes = "".join(
        f'      c{i}: {{text: Cause, mechanism: "5", signs: {{"*": rose}}, actions: [check_suction]}}\n'
        for i in range(14)
    )
    text = MAP % "centrifugal_pump" + "catalogue:\n  - class: centrifugal_pump\n    causes:\n" + causes
    _, problems = tagmap.load_with_problems(site(a__yaml=text))
    assert ["21 causes; 20 are allowed" in problem.message for problem in problems] == [True]
