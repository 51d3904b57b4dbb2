"""The registry and the options every source has."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError

import adapters
from adapters.base import REGISTRY, Adapter, AdapterContext, Backoff, SourceOptions, register
from schemas.tagmap import Tag


class SomeOptions(SourceOptions):
    kind: Literal["some"] = "some"
    host: Annotated[str, Field(description="Where.")] = "here"


def test_importing_the_package_registers_every_kind() -> None:
    """The list in the package is explicit and complete."""
    assert sorted(REGISTRY) == sorted(adapters.__all__)
    assert all(spec.kind == kind for kind, spec in REGISTRY.items())


def test_a_kind_is_registered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second adapter of the same kind is a mistake that shows at import."""
    monkeypatch.delitem(REGISTRY, "some", raising=False)

    def build(options: SomeOptions, context: AdapterContext) -> Adapter:
        pytest.fail("registering builds nothing")

    register("some", SomeOptions)(build)
    try:
        with pytest.raises(ValueError, match="'some' registered twice"):
            register("some", SomeOptions)(build)
        assert (
            REGISTRY["some"].check_tag(SomeOptions(), Tag(number=0, id="t", path="S/t", source="s", address="")) is None
        )
    finally:
        del REGISTRY["some"]


def test_options_are_strict_and_frozen() -> None:
    """An unknown option is an error, and no value changes behind the adapter's back."""
    with pytest.raises(ValidationError, match="Extra inputs"):
        SomeOptions.model_validate({"hots": "there"})
    options = SomeOptions()
    with pytest.raises(ValidationError, match="frozen"):
        options.host = "there"


def test_waiting_times_have_defaults_that_follow_the_scan() -> None:
    """Silence is three scans, at least half a minute, unless it is named."""
    assert SomeOptions().silence_s() == 30.0
    assert SomeOptions.model_validate({"scan": "60s"}).silence_s() == 180.0
    assert SomeOptions.model_validate({"silence_after": "5s"}).silence_s() == 5.0
    assert SomeOptions().backoff == Backoff.model_validate({"first": "1s", "max": "5s"})
