"""docs/services.md says what the profiles say."""

from __future__ import annotations

from pipeline.service.profiles import PROFILES
from tests.support.command import ROOT


def rows() -> dict[str, list[str]]:
    """The first table: profile -> cells."""
    found = {}
    for line in (ROOT / "docs/services.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 7 and cells[0].startswith("`"):
            found[cells[0].strip("`")] = cells[1:]
    return found


def test_the_table_is_the_profiles() -> None:
    """Address, key, prices, URLs, schema and limits of each."""
    table = rows()
    assert set(table) == set(PROFILES)
    for name, (address, key, prices, urls, schema, limits) in table.items():
        profile = PROFILES[name]
        nowhere = "`endpoint.base_url`" if profile.own_address else "inside the process"
        assert address == (f"`{profile.base_url}`" if profile.base_url else nowhere)
        assert key == (f"`{profile.key_env}`" if profile.key_env else "none")
        assert (prices == "yes") == profile.tells_prices, name
        assert (urls == "yes") == profile.takes_urls
        assert (schema == "yes") == (profile.json_schema == "always")
        for number in (profile.limits.requests_per_minute, profile.limits.requests_per_day):
            assert number is None or f"{number:,}" in limits
