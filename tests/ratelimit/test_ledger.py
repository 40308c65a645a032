"""The ledger's file and its transactions: lost, damaged, not writable, of another boot."""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from pipeline.errors import OutputError
from pipeline.model import Limits
from pipeline.ratelimit.kept import Kept
from pipeline.ratelimit.ledger import Ledger
from pipeline.ratelimit.ledger_file import NAME
from pipeline.ratelimit.ledger_thread import LedgerThread
from pipeline.ratelimit.ledger_view import names_of
from pipeline.ratelimit.rename import rename_account
from pipeline.ratelimit.reservations import LedgerUpdates, Reservation, ReservationRequest
from pipeline.ratelimit.server_time import ServerTime, Uptime
from pipeline.ratelimit.settings import QuotaSettings
from pipeline.ratelimit.today import today
from tests.ratelimit.rules import NOON, at

TODAY = "2026-11-23"
LIMITS = Limits(requests_per_minute=20, requests_per_day=50)


@dataclass
class Machine:
    """A host with a wall clock and seconds since boot."""

    folder: Path
    now: float = 1000.0
    boot: str = "boot 1"
    wall: float = NOON

    def open(self, output: str = "out", limits: Limits = LIMITS) -> Ledger:
        names = names_of("account", "model", output, limits)
        return Ledger(self.folder, names, Uptime(lambda: self.now, self.boot), self.wall)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds

    def ask(
        self, ledger: Ledger, pending: LedgerUpdates | None = None, **changes: Any
    ) -> Reservation:
        claim = ReservationRequest(
            days=(TODAY,),
            uptime=self.now,
            wall=self.wall,
            low=self.wall,
            count=20,
            window=61.5,
            spacing=0.0,
            burst=1,
            per_day=50,
            per_job=None,
        )
        return ledger.reserve(replace(claim, **changes), pending or LedgerUpdates())


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "state")


def grants(machine: Machine, ledger: Ledger, asks: int, **changes: Any) -> int:
    return sum(machine.ask(ledger, **changes).row is not None for _ in range(asks))


def test_two_ledgers_share_the_minute_and_the_day(machine: Machine) -> None:
    """20 a minute and 50 a day over both outputs of one account; then nothing until tomorrow."""
    one, two = machine.open("one"), machine.open("two")
    got = []
    for _ in range(4):
        got.append(grants(machine, one, 15) + grants(machine, two, 15))
        machine.wait(61.6)

    assert got == [20, 20, 10, 0]
    refused = machine.ask(one)
    assert refused.wait_until is None
    assert refused.view.used == {TODAY: 50}
    assert refused.view.used_by_job[TODAY] < 50
    one.close()
    two.close()


def test_a_full_minute_tells_when_to_ask_again(machine: Machine) -> None:
    """The instant at which the oldest of the minute's permits leaves the window."""
    ledger = machine.open()
    for _ in range(20):
        assert machine.ask(ledger).row
        machine.wait(1.0)

    assert machine.ask(ledger).wait_until == pytest.approx(1000.0 + 61.5)
    machine.wait(41.5)
    assert machine.ask(ledger).row
    assert machine.ask(ledger).wait_until == pytest.approx(1001.0 + 61.5)
    ledger.close()


def test_spacing_holds_between_processes(machine: Machine) -> None:
    """A permit of another process two seconds ago: a little of the three is still missing."""
    one, two = machine.open(), machine.open()
    assert machine.ask(one, spacing=3.0).row
    machine.wait(2.0)

    assert machine.ask(two, spacing=3.0).wait_until == pytest.approx(1002.7)
    one.close()
    two.close()


def test_a_bucket_is_shared_and_tells_when_a_request_has_come_back(machine: Machine) -> None:
    """Three a day that come back one by one: three at once over both processes, then one in eight
    hours."""
    one, two = machine.open("one"), machine.open("two")
    bucket = {"interval": 8 * 3600.0}
    got = grants(machine, one, 2, **bucket) + grants(machine, two, 2, **bucket)

    assert got == 3
    assert machine.ask(one, **bucket).wait_until == machine.now + 8 * 3600.0
    machine.wait(8 * 3600.0)
    assert grants(machine, two, 1, **bucket) + grants(machine, one, 1, **bucket) == 1
    one.close()
    two.close()


def test_what_is_news_during_a_write_is_written_after_it(machine: Machine) -> None:
    """A pause that is told while another is being written: others hear it without a request of ours."""
    names = names_of("account", "model", "out", LIMITS)

    async def play(thread: ThreadPoolExecutor) -> float | None:
        ledger = LedgerThread(thread.submit(machine.open).result(), thread)
        for scope, seconds in ((names.account, 30.0), (names.model, 60.0)):
            ledger.pending.pauses[scope] = machine.now + seconds
            ledger.write_soon()
        assert ledger._writing is not None
        await asyncio.wait([ledger._writing])
        thread.submit(int).result()  # behind whatever is being written
        other = machine.open("other")
        paused = machine.ask(other).paused_until
        other.close()
        await ledger.close()
        return paused

    with ThreadPoolExecutor(1) as thread:
        assert asyncio.run(play(thread)) == machine.now + 60.0


def test_a_clock_that_is_known_is_not_written_again(machine: Machine) -> None:
    """Time that passes is no news; another offset is."""
    thread = Mock(pending=LedgerUpdates())
    kept = Kept(ledger=thread, names=names_of("account", "model", "out", LIMITS))
    server = ServerTime.trusting(machine.wall, machine.now)
    kept.clock(at(0.0), server)
    assert thread.pending.clock
    thread.pending = LedgerUpdates()
    kept.clock(at(3600.0), server)
    assert not thread.pending
    kept.clock(at(3600.0)._replace(low=NOON), server)
    assert thread.pending.clock


def test_a_model_limit_is_its_models_own(machine: Machine) -> None:
    """Where the limit is the model's, another model of the account has its own day."""
    per_model = replace(LIMITS, day_scope="model", requests_per_day=5)
    names = [names_of("account", model, "out", per_model) for model in ("a", "b")]
    ledgers = [
        Ledger(machine.folder, name, Uptime(lambda: machine.now, "boot 1"), machine.wall)
        for name in names
    ]

    assert [grants(machine, ledger, 10, per_day=5) for ledger in ledgers] == [5, 5]
    for ledger in ledgers:
        ledger.close()


def test_what_was_given_back_may_be_asked_again(machine: Machine) -> None:
    """Neither the day nor the minute keeps it."""
    ledger = machine.open()
    rows = [machine.ask(ledger).row for _ in range(20)]
    assert machine.ask(ledger).row is None

    returned = LedgerUpdates(returned=[(row, (TODAY,)) for row in rows[:5] if row])
    assert machine.ask(ledger, returned).row
    assert grants(machine, ledger, 20) == 4
    assert machine.ask(ledger).view.used == {TODAY: 20}
    ledger.close()


def test_reservations_without_a_reply_stay_spent_and_are_known(machine: Machine) -> None:
    """As after kill -9: the next run of this output counts them as unknown."""
    ledger = machine.open()
    rows = [machine.ask(ledger).row for _ in range(7)]
    ledger.write(LedgerUpdates(answered=[row for row in rows[:4] if row]))
    ledger.close()

    machine.wait(10.0)
    again = machine.open()
    view, unknown = again.look([TODAY], None, None)
    assert (view.used[TODAY], unknown) == (7, 3)
    again.close()
    other = machine.open("another output")
    assert other.look([TODAY], None, None)[1] == 0
    other.close()


def test_a_spent_day_and_a_pause_are_heard_by_all(machine: Machine) -> None:
    """Account-wide words hold back every model; a model's words only itself."""
    one, two = machine.open(), machine.open("other")
    one.write(LedgerUpdates(pauses={"account": machine.now + 30.0}))
    assert machine.ask(two).paused_until == machine.now + 30.0

    machine.wait(31.0)
    one.write(LedgerUpdates(holds={"account/another": (machine.wall + 3600.0, 80)}))
    assert machine.ask(two).row
    one.write(LedgerUpdates(holds={"account": (machine.wall + 3600.0, 50)}))
    refused = machine.ask(two)
    assert refused.row is None
    assert (refused.view.hold_until, refused.view.hold_limit) == (machine.wall + 3600.0, 50)
    one.close()
    two.close()


@pytest.mark.parametrize(
    ("ours", "recent", "told", "counted"),
    [
        (10, False, 30, 30),  # somebody else asks with this account too
        (10, False, 4, 4),  # the service forgives what failed
        (10, True, 4, 10),  # but may not have counted the last minutes yet
        (0, False, 12, 12),
    ],
)
def test_the_services_own_count_corrects_ours(
    machine: Machine, ours: int, recent: bool, told: int, counted: int
) -> None:
    """Raised at once; lowered only by what cannot be on its way any more."""
    ledger = machine.open()
    rows = [machine.ask(ledger).row for _ in range(ours)]
    ledger.write(LedgerUpdates(answered=[row for row in rows if row]))
    machine.wait(30.0 if recent else 600.0)

    view, _ = ledger.look([TODAY], told, None)
    assert view.used[TODAY] == counted
    ledger.close()


# Loss and damage


def test_a_deleted_ledger_starts_carefully_and_says_so(machine: Machine) -> None:
    """The minute counts as full, the day as unknown until the service tells its count."""
    machine.open().close()
    (machine.folder / NAME).unlink()
    ledger = machine.open()

    assert "was deleted" in ledger.notices[0]
    assert machine.ask(ledger).wait_until == pytest.approx(machine.now + 61.5)
    machine.wait(61.6)
    assert machine.ask(ledger).view.careful
    assert not ledger.look([TODAY], 17, None)[0].careful
    ledger.close()
    again = machine.open()
    assert again.notices == []
    assert not again.look([TODAY], None, None)[0].careful
    again.close()


def test_a_first_ledger_is_not_a_lost_one(machine: Machine) -> None:
    """Nobody is warned on a fresh machine, and the first request goes at once."""
    ledger = machine.open()

    assert ledger.notices == []
    grant = machine.ask(ledger)
    assert grant.row
    assert not grant.view.careful
    ledger.close()


def test_processes_that_open_the_first_ledger_together_lose_nothing(machine: Machine) -> None:
    """None of them takes the other's lock file for a lost ledger."""
    with ThreadPoolExecutor(8) as threads:
        ledgers = list(threads.map(lambda number: machine.open(f"out {number}"), range(8)))

    assert [ledger.notices for ledger in ledgers] == [[]] * 8
    assert sum(grants(machine, ledger, 5) for ledger in ledgers) == 20
    for ledger in ledgers:
        ledger.close()


@pytest.mark.parametrize("damage", ["text", "middle", "schema"])
def test_a_damaged_ledger_is_set_aside(machine: Machine, damage: str) -> None:
    """It is kept under another name, a new one starts carefully, and the user is told."""
    ledger = machine.open()
    with ledger._transaction() as db:
        for number in range(300):
            db.execute("INSERT INTO days(scope, day) VALUES (?, '2026-01-01')", (f"{number}",))
    ledger.close()
    path = machine.folder / NAME
    data = bytearray(path.read_bytes())
    if damage == "text":
        data = bytearray(b"not a database at all" * 300)
    elif damage == "middle":
        data[4096:] = b"\xff" * (len(data) - 4096)
    else:
        data[100:110] = b"\x00" * 10
    path.write_bytes(data)

    ledger = machine.open()
    assert "was damaged" in ledger.notices[0]
    assert len(list(machine.folder.glob(f"{NAME}.damaged-*"))) == 1
    machine.wait(61.6)
    assert machine.ask(ledger).view.careful
    ledger.close()


def test_a_ledger_deleted_during_the_run_goes_on_from_what_the_run_knows(machine: Machine) -> None:
    """The count of the day survives in the new file, and another process sees it."""
    ledger = machine.open()
    assert grants(machine, ledger, 12) == 12
    (machine.folder / NAME).unlink()

    machine.wait(5.0)
    assert machine.ask(ledger).row is None
    machine.wait(61.6)
    assert machine.ask(ledger).view.used == {TODAY: 13}
    assert "was deleted" in ledger.notices[0]
    other = machine.open("other")
    assert machine.ask(other).view.used == {TODAY: 14}
    ledger.close()
    other.close()


def test_a_ledger_damaged_during_the_run_is_set_aside_and_the_run_goes_on(
    machine: Machine,
) -> None:
    """As with a deleted one: the run's own count is carried over."""
    ledger = machine.open()
    assert grants(machine, ledger, 12) == 12
    path = machine.folder / NAME
    with path.open("r+b") as file:
        file.write(b"\xff" * path.stat().st_size)

    machine.wait(5.0)
    machine.ask(ledger)
    machine.wait(61.6)
    assert machine.ask(ledger).view.used == {TODAY: 13}
    assert "was damaged" in ledger.notices[0]
    assert len(list(machine.folder.glob(f"{NAME}.damaged-*"))) == 1
    ledger.close()


def test_rows_of_a_deleted_file_touch_nothing_in_the_new_one(machine: Machine) -> None:
    """A reply to a permit of the old file does not mark a stranger's reservation as answered."""
    ledger = machine.open()
    old = machine.ask(ledger).row
    assert old
    (machine.folder / NAME).unlink()
    machine.wait(61.6)
    ledger.write(LedgerUpdates())
    machine.wait(61.6)
    new = machine.ask(ledger).row
    assert new
    assert new[1] == old[1]

    ledger.write(LedgerUpdates(answered=[old]))
    assert ledger.look([TODAY], None, None)[1] == 1
    ledger.close()


def test_a_folder_that_cannot_be_written_is_exit_73(tmp_path: Path) -> None:
    """With the path and the remedy in the message."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OutputError, match="CAPTION_PIPELINE_STATE") as caught:
        Machine(blocked / "state").open()

    assert caught.value.exit_code == 73
    assert str(blocked) in str(caught.value)


def test_a_ledger_that_cannot_be_written_any_more_is_exit_73(machine: Machine) -> None:
    """A read-only disk in the middle of a run: no request goes uncounted."""
    ledger = machine.open()
    ledger._connection.execute("PRAGMA query_only=1")

    with pytest.raises(OutputError):
        machine.ask(ledger)
    ledger.close()


def test_a_ledger_of_a_newer_version_is_left_alone(machine: Machine) -> None:
    """Neither set aside nor written."""
    machine.open().close()
    with sqlite3.connect(machine.folder / NAME) as db:
        db.execute("PRAGMA user_version=99")
    db.close()

    with pytest.raises(OutputError, match="newer version"):
        machine.open()
    assert not list(machine.folder.glob("*.damaged*"))


def test_the_files_are_private(machine: Machine) -> None:
    """Folder 0700, file 0600."""
    machine.open().close()

    assert machine.folder.stat().st_mode & 0o777 == 0o700
    assert (machine.folder / NAME).stat().st_mode & 0o777 == 0o600


# Clocks


def test_after_a_reboot_the_last_minute_still_counts(machine: Machine) -> None:
    """Seconds since boot start anew; permits of a moment ago are as if just given."""
    ledger = machine.open()
    assert grants(machine, ledger, 20) == 20
    ledger.close()
    machine.wait(20.0)
    machine.now, machine.boot = 9.0, "boot 2"

    ledger = machine.open()
    assert machine.ask(ledger).wait_until == pytest.approx(9.0 + 61.5)
    ledger.close()


def test_a_reboot_long_after_forgets_the_minute(machine: Machine) -> None:
    """Permits of an hour ago hold nobody back."""
    ledger = machine.open()
    assert grants(machine, ledger, 20) == 20
    ledger.close()
    machine.wait(3600.0)
    machine.now, machine.boot = 9.0, "boot 2"

    ledger = machine.open()
    assert grants(machine, ledger, 30) == 20
    ledger.close()


def test_a_wall_clock_set_between_two_runs_is_noticed(machine: Machine) -> None:
    """The boot clock tells: the service's time is then one of the two."""
    ledger = machine.open()
    ledger.write(LedgerUpdates(clock=(ledger.clock(), machine.wall)))
    ledger.close()
    machine.wait(100.0)
    machine.wall += 3600.0

    ledger = machine.open()
    low, high = ledger.clock().bounds(machine.now)
    assert (low, high) == (NOON + 100.0, NOON + 3700.0)
    ledger.close()


def test_what_the_service_said_of_its_clock_is_kept(machine: Machine) -> None:
    """A later run on this boot does not need the wall clock."""
    ledger = machine.open()
    record_result = ServerTime.trusting(machine.wall, machine.now)
    record_result.heard_date(machine.wall + 500.0, sent=machine.now, received=machine.now + 0.1)
    ledger.write(LedgerUpdates(clock=(record_result, machine.wall + 500.0)))
    ledger.close()
    machine.wait(50.0)
    machine.wall -= 3600.0

    ledger = machine.open()
    low, high = ledger.clock().bounds(machine.now)
    assert NOON + 549.0 <= low <= high <= NOON + 551.5
    ledger.close()


def test_a_wall_clock_behind_the_past_is_doubted(machine: Machine) -> None:
    """After a reboot with a clock that runs backwards, both times are possible."""
    ledger = machine.open()
    ledger.write(LedgerUpdates(clock=(ledger.clock(), machine.wall)))
    ledger.close()
    machine.now, machine.boot, machine.wall = 5.0, "boot 2", NOON - 7200.0

    ledger = machine.open()
    assert ledger.clock().bounds(machine.now) == (NOON - 7200.0, NOON)
    ledger.close()


# Looking from outside


def test_today_is_seen_from_outside_without_a_trace(machine: Machine) -> None:
    """Counts of a run that is going on; and no ledger is made by looking."""
    settings = QuotaSettings(requests_per_day=30)
    ask: dict[str, Any] = {"account": "account", "model": "model", "output": "out"}
    empty = today(machine.folder, settings, LIMITS, now=machine.wall, **ask)
    assert (empty.used, empty.left, empty.limit) == (0, 30, 30)
    assert not machine.folder.exists()

    ledger = machine.open()
    rows = [machine.ask(ledger).row for _ in range(9)]
    ledger.write(LedgerUpdates(answered=[row for row in rows[2:] if row]))
    seen = today(machine.folder, settings, LIMITS, now=machine.wall, **ask)
    assert (seen.used, seen.used_by_job, seen.left, seen.unknown) == (9, 9, 21, 2)
    assert seen.resets_at == NOON + 12 * 3600 + 5

    ledger.write(LedgerUpdates(holds={"account": (NOON + 7205.0, 50)}))
    held = today(machine.folder, settings, LIMITS, now=machine.wall, **ask)
    assert (held.left, held.resets_at, held.spent) == (0, NOON + 7205.0, True)
    ledger.close()


@pytest.mark.parametrize("scope", ["account", "model"])
def test_what_was_counted_under_a_former_name_stays_counted(machine: Machine, scope: str) -> None:
    """Days are added up, the minute and reservations without a reply come along, and once."""
    former, account = "f" * 32, "a" * 32
    limits = replace(LIMITS, day_scope=scope)

    def opened(name: str) -> Ledger:
        names = names_of(name, "m", "out", limits)
        return Ledger(machine.folder, names, Uptime(lambda: machine.now, machine.boot), NOON)

    for name, count in ((former, 3), (account, 2)):
        ledger = opened(name)
        assert grants(machine, ledger, count) == count
        ledger.close()
    for _ in range(2):
        rename_account(machine.folder, former=former, account=account)

    ledger = opened(account)
    view, unknown = ledger.look([TODAY], None, None)
    assert (view.used, view.used_by_job, unknown) == ({TODAY: 5}, {TODAY: 5}, 5)
    assert grants(machine, ledger, 20) == 15  # the minute holds 20, five of them gone
    ledger.close()
    with sqlite3.connect(machine.folder / NAME) as db:
        for table in ("days", "permits", "holds", "pauses"):
            rows = db.execute(f"SELECT scope FROM {table}").fetchall()
            assert not [name for (name,) in rows if name.startswith(former)]


def test_no_ledger_is_made_by_looking_for_a_former_name(tmp_path: Path) -> None:
    rename_account(tmp_path, former="f" * 32, account="a" * 32)
    assert list(tmp_path.iterdir()) == []
