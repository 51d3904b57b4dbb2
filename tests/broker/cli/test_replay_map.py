"""``fairlead replay --map`` with one file of several."""

from __future__ import annotations

from pathlib import Path

from broker.cli.replay import _map
from broker.config import load_config


def test_a_part_of_the_map_is_no_judge_of_the_release_policy(tmp_path: Path) -> None:
    """The corrected file may lack the catalogue whose causes the policy names; the replay takes it all the same."""
    (tmp_path / "tags.yaml").write_text(
        "version: 1\ntags: [{path: Acme/Lyon/N, source: plc, address: '40001', type: uint16, unit: '1'}]\n"
    )
    path = tmp_path / "fairlead.yaml"
    path.write_text(
        "version: 1\nsite: {path: Acme/Lyon}\nsources: {plc: {kind: modbus, host: 127.0.0.1}}\n"
        "review: {policy: {name: p, approved_by: J. Keller, approved_on: '2026-11-01', reason: because it is so,\n"
        "  rules: [{severity: [high], kind: [mean_shift], causes: [a_cause_of_the_site]}]}}\n"
    )
    found = _map(load_config(path), [tmp_path / "tags.yaml"])
    assert found is not None
    assert len(found.tags) == 1
