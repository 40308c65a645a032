"""The service's clock: believed, doubted, and heard."""

from __future__ import annotations

import random

from pipeline.ratelimit.server_time import ServerTime, system_uptime

HOUR = 3600.0


def test_a_slewed_wall_clock_is_followed() -> None:
    """Small corrections (NTP) move the estimate and leave no doubt."""
    time = ServerTime.trusting(1000.0, 0.0)
    time.observe(1010.4, 10.0)

    assert time.bounds(20.0) == (1020.4, 1020.4)


def test_a_wall_clock_that_was_set_leaves_both_readings_possible() -> None:
    """Without a word from the service nobody knows which of the two is right."""
    time = ServerTime.trusting(1000.0, 0.0)
    time.observe(1010.0 + HOUR, 10.0)

    assert time.bounds(10.0) == (1010.0, 1010.0 + HOUR)

    time.observe(1020.0 - HOUR, 20.0)
    assert time.bounds(20.0) == (1020.0 - HOUR, 1020.0 + HOUR)


def test_a_date_header_ends_the_doubt_and_the_wall_clock_matters_no_more() -> None:
    """After one `Date` a jump changes nothing."""
    time = ServerTime.trusting(1000.0, 0.0)
    time.observe(1010.0 + HOUR, 10.0)

    assert time.heard_date(1020.0, sent=19.5, received=20.5)
    low, high = time.bounds(20.5)
    assert 1020.0 <= low <= high <= 1022.5

    time.observe(5000.0, 30.0)
    assert time.bounds(30.5) == (low + 10.0, high + 10.0)


def test_dates_narrow_the_interval_and_always_hold_the_truth() -> None:
    """Many replies with latencies of up to 20 s leave less than 1.5 s of doubt."""
    rng = random.Random(4)
    offset = 777.7
    time = ServerTime.trusting(0.0, 0.0)
    uptime = 0.0
    for _ in range(200):
        latency = rng.uniform(0.1, 20.0)
        written = uptime + latency * rng.random()
        time.heard_date(float(int(written + offset)), sent=uptime, received=uptime + latency)
        uptime += latency
        low, high = time.bounds(uptime)

        assert low <= uptime + offset <= high
    assert high - low < 1.5


def test_an_absurd_date_is_not_believed() -> None:
    """1970 is not an offset, it is a broken server."""
    time = ServerTime.trusting(1_795_392_000.0, 0.0)

    assert not time.heard_date(0.0, sent=1.0, received=2.0)
    assert time.bounds(0.0) == (1_795_392_000.0, 1_795_392_000.0)


def test_a_service_whose_clock_was_set_is_heard_anew() -> None:
    """A `Date` that contradicts what was heard before replaces it."""
    time = ServerTime.trusting(1000.0, 0.0)
    time.heard_date(1000.0, sent=0.0, received=0.2)
    time.heard_date(1500.0, sent=10.0, received=10.2)

    low, high = time.bounds(10.2)
    assert 1500.0 <= low <= high <= 1501.5


def test_the_boot_clock_runs() -> None:
    """Seconds since boot only grow, and the boot has a name."""
    uptime = system_uptime()

    assert 0 < uptime.seconds() <= uptime.seconds()
    assert uptime.boot
