#!/usr/bin/env python3
"""report.py MEASURED MACHINE OUTPUT LARGEST MEDIUM: from the measurements to RESULTS.md and lookup.svg.

MEASURED has lines of experiment, variant and seconds for one operation; the nth line of a variant
is of the nth round. A ratio is taken within each round, and its median counts.
"""

import math
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple


class Goal(NamedTuple):
    """Two variants of an experiment, and how their ratio should turn out."""

    title: str
    experiment: str
    ours: str
    peer: str
    unit: str = "speed"  # ours over peer's speed; or "time": ours over peer's time
    limit: float | None = None  # a speed of at least, a time of at most this; None: just to know
    net_of: str | None = None  # the variant whose time is subtracted from both


def goals(largest, medium):
    look_up, two = f"look-up, {largest} rows", f"look-up, {largest} rows, 2 clients"
    bcrypt = f"bcrypt look-up, {medium} rows"
    where, find = "hash_api_key", "find_by_api_key"
    return [
        Goal("`WHERE api_key_hash = hash_api_key($1)` against plaintext", look_up, where, "plaintext", limit=0.97),
        Goal("the same, 2 clients", two, where, "plaintext", limit=0.97),
        Goal("`find_by_api_key` against plaintext", look_up, find, "plaintext", limit=0.90),
        Goal("the same, 2 clients", two, find, "plaintext", limit=0.90),
        Goal("`WHERE` with pgcrypto's `digest()` against plaintext", look_up, "pgcrypto", "plaintext"),
        Goal("`WHERE` with PostgreSQL's `sha256()` against plaintext", look_up, "PostgreSQL", "plaintext"),
        Goal("`hash_api_key(k)` against pgcrypto's `digest()`, net of the query", "digest call", "hash_api_key", "pgcrypto", limit=4, net_of="nothing"),
        Goal("`hash_api_key(k)` against PostgreSQL's `sha256()`, net of the query", "digest call", "hash_api_key", "PostgreSQL", net_of="nothing"),
        Goal("`hash_api_key(k, 'bcrypt', 8)` against pgcrypto's `crypt()`", "bcrypt 8 call", "hash_api_key", "pgcrypto", limit=1),
        Goal("`hash_api_key(k, 'bcrypt', 10)` against pgcrypto's `crypt()`", "bcrypt 10 call", "hash_api_key", "pgcrypto", limit=1),
        Goal("`hash_api_keys` (bcrypt, cost 10, all cores) against `crypt()` in one session", "bcrypt bulk", "hash_api_keys", "pgcrypto", limit=7),
        Goal("trigger against one in PL/pgSQL with pgcrypto, net of the insert", "trigger", "ours", "pgcrypto", limit=3, net_of="client"),
        Goal("trigger against one in PL/pgSQL with `sha256()`, net of the insert", "trigger", "ours", "PostgreSQL", net_of="client"),
        Goal("insert of a key against insert of a hash that the client made", "insert", "ours", "client", limit=0.92),
        Goal("the same with a trigger in C that sets one column and hashes nothing", "insert", "plain C", "client"),
        Goal("the same with a PL/pgSQL trigger and pgcrypto", "insert", "pgcrypto", "client"),
        Goal("`migrate_api_keys` (sha256) against a bare UPDATE of the protected table", "migration", "migrate_api_keys", "bare UPDATE, protected", limit=0.95),
        Goal("the same against a bare UPDATE of a table without triggers", "migration", "migrate_api_keys", "bare UPDATE"),
        Goal("a connection for each look-up: `WHERE` against plaintext", f"{look_up}, connecting", where, "plaintext"),
        Goal("the same with `find_by_api_key`", f"{look_up}, connecting", find, "plaintext"),
        Goal("bcrypt look-up of a right key, in hashes", bcrypt, "right key", "one hash", "time", 1.5),
        Goal("the same with `WHERE api_key_tag = … AND verify_api_key(…)`", bcrypt, "right key, WHERE", "one hash", "time"),
        Goal("bcrypt look-up of a wrong key, in hashes", bcrypt, "wrong key", "one hash", "time", 4),
        Goal("bcrypt look-up of a right key again, in µs", bcrypt, "right key again", None, "time", 50),
        Goal("the same with `WHERE api_key_tag = … AND verify_api_key(…)`", bcrypt, "right key again, WHERE", None, "time"),
        Goal("a plaintext look-up of the same kind, in µs", bcrypt, "plaintext", None, "time"),
    ]


def read(path):
    """{experiment: {variant: [seconds, ...]}}"""
    measured = defaultdict(lambda: defaultdict(list))
    for line in path.read_text().splitlines():
        experiment, variant, seconds = line.split("\t")
        measured[experiment][variant].append(float(seconds))
    return measured


def spread(values):
    """First and third quartile."""
    if len(values) < 2:
        return values[0], values[0]
    first, _, third = quantiles(values, n=4, method="inclusive")
    return first, third


def digits(value):
    """Three significant digits, in plain notation."""
    if value == 0:
        return "0"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def duration(seconds):
    for unit, size in (("s", 1), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{digits(seconds / size)} {unit}"
    return f"{digits(seconds / 1e-9)} ns"


def ratios(goal, variants):
    ours = variants[goal.ours]
    if goal.peer is None:
        return [seconds * 1e6 for seconds in ours]
    peer = variants[goal.peer]
    base = variants[goal.net_of] if goal.net_of else [0.0] * len(ours)
    times = [(o - b) / (p - b) for o, p, b in zip(ours, peer, base)]
    return times if goal.unit == "time" else [1 / time for time in times]


def verdict(goal, value):
    if goal.limit is None:
        return "", ""
    if goal.unit == "speed":
        return f"≥ {goal.limit:g}", "yes" if value >= goal.limit else "no"
    return f"≤ {goal.limit:g}", "yes" if value <= goal.limit else "no"


def net_time(goal, variant, variants):
    if variant is None:
        return ""
    base = variants[goal.net_of] if goal.net_of else [0.0] * len(variants[variant])
    return duration(median(v - b for v, b in zip(variants[variant], base)))


def summary(measured, wanted):
    rows = [("", "ours", "peer", "ratio", "quartiles", "goal", "met")]
    for goal in wanted:
        variants = measured[goal.experiment]
        found = ratios(goal, variants)
        low, high = spread(found)
        rows.append((
            goal.title,
            net_time(goal, goal.ours, variants),
            net_time(goal, goal.peer, variants),
            digits(median(found)),
            f"{digits(low)} – {digits(high)}",
            *verdict(goal, median(found)),
        ))
    return rows


def markdown(rows):
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|---" + "|---:" * (len(rows[0]) - 1) + "|", *lines[1:]])


def plain(rows):
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths)))
        for row in rows
    ).replace("`", "")


def all_times(measured):
    rows = [("", "", "median", "least", "most", "rounds")]
    for experiment, variants in measured.items():
        for variant, seconds in variants.items():
            rows.append((experiment, count(int(variant)) + " clients" if variant.isdigit() else variant,
                         *map(duration, (median(seconds), min(seconds), max(seconds))), str(len(seconds))))
    return rows


def count(number):
    return f"{number:,}"


# The chart: latency against number of clients, both logarithmic.

LINES = [  # experiment, label, colour
    ("naive scan", "naive scan: bcrypt on every row", "#b03a2e"),
    ("bcrypt, first time", "bcrypt, first time", "#7d3c98"),
    ("bcrypt, repeated", "bcrypt, repeated", "#c77dde"),
    ("sha256, find_by_api_key", "find_by_api_key, sha256", "#117a65"),
    ("sha256, WHERE", "WHERE … = hash_api_key($1)", "#2471a3"),
    ("plaintext", "plaintext look-up", "#555555"),
]
WIDTH, HEIGHT = 800, 480
LEFT, RIGHT, TOP, BOTTOM = 84, 552, 56, 424


def chart(measured, largest):
    points = {
        name: sorted((int(rows), median(seconds)) for rows, seconds in measured[name].items()) for name, _, _ in LINES
    }
    # A scan takes as long for each row: from the last number of rows measured on, it is drawn so.
    scan_rows, scan_seconds = points["naive scan"][-1]
    guess = [(scan_rows, scan_seconds), (largest, scan_seconds * largest / scan_rows)]

    seconds = [s for line in [*points.values(), guess] for _, s in line]
    low, high = math.floor(math.log10(min(seconds))), math.ceil(math.log10(max(seconds)))

    def x(rows):
        return LEFT + (RIGHT - LEFT) * math.log10(rows) / math.log10(largest)

    def y(value):
        return BOTTOM - (BOTTOM - TOP) * (math.log10(value) - low) / (high - low)

    def path(line):
        return " ".join(f"{x(rows):.1f},{y(value):.1f}" for rows, value in line)

    svg = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="DejaVu Sans, Verdana, Helvetica, Arial, sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="{LEFT}" y="28" font-size="16" fill="#222222">Time to find the client of a key, by number of clients</text>',
    ]
    for power in range(low, high + 1):
        at = y(10.0**power)
        svg.append(f'<line x1="{LEFT}" x2="{RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#e4e4e4"/>')
        svg.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end" fill="#444444">{tick(power)}</text>')
    for power in range(round(math.log10(largest)) + 1):
        at = x(10**power)
        svg.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{BOTTOM}" stroke="#f0f0f0"/>')
        svg.append(f'<text x="{at:.1f}" y="{BOTTOM + 20}" text-anchor="middle" fill="#444444">{count(10**power)}</text>')
    svg.append(f'<text x="{(LEFT + RIGHT) / 2}" y="{BOTTOM + 42}" text-anchor="middle" fill="#444444">clients in the table</text>')

    ends = []
    for name, label, colour in LINES:
        line = points[name]
        svg.append(f'<polyline points="{path(line)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        svg += [f'<circle cx="{x(rows):.1f}" cy="{y(value):.1f}" r="3" fill="{colour}"/>' for rows, value in line]
        end = line[-1][1]
        if name == "naive scan":
            svg.append(f'<polyline points="{path(guess)}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="3 5"/>')
            end = guess[-1][1]
        ends.append([y(end), label, colour, duration(end)])
        if name == "naive scan":
            ends[-1][3] = f"{human(end)}, extrapolated"
    for at, (wanted, label, colour, value) in zip(apart([e[0] for e in ends], 36), ends):
        svg.append(f'<line x1="{RIGHT + 4}" x2="{RIGHT + 18}" y1="{wanted:.1f}" y2="{at:.1f}" stroke="{colour}"/>')
        svg.append(f'<text x="{RIGHT + 22}" y="{at - 2:.1f}" fill="{colour}">{label}</text>')
        svg.append(f'<text x="{RIGHT + 22}" y="{at + 14:.1f}" fill="#444444">{value}</text>')
    return "\n".join([*svg, "</svg>", ""])


def apart(places, gap):
    """The places, moved so that neighbours are at least a gap apart, and none leaves the chart."""
    order = sorted(range(len(places)), key=places.__getitem__)
    moved = list(places)
    for before, this in zip(order, order[1:]):
        moved[this] = max(moved[this], moved[before] + gap)
    limit = BOTTOM - 16
    for i in reversed(order):
        moved[i] = min(moved[i], limit)
        limit = moved[i] - gap
    return moved


def tick(power):
    size, unit = {-2: (1, "µs"), -1: (1, "ms"), 0: (1, "s"), 1: (1, "s")}.get(power // 3, (1, "s"))
    return f"{count(10 ** (power % 3 if power < 0 else power))} {unit}"


def human(seconds):
    return f"{digits(seconds / 3600)} hours" if seconds >= 3600 else duration(seconds)


RESULTS = """# Benchmark results

Written by `make bench`; nothing here is typed by hand.

{machine}

![latency by number of clients](lookup.svg)

## Ratios

Ours and its peer took turns in the same rounds, in small parts. A ratio is taken within each round; here are the median of
the rounds and their quartiles. It compares speeds (higher is better), but for bcrypt look-ups times (lower is better).

{summary}

## Times

Seconds for one operation: the median of the rounds, the least and the most.

{times}

## How

{how}
"""

HOW = """- One throw-away server on the same machine, reached by a Unix socket: [postgresql.conf](postgresql.conf) keeps all tables in memory, and
  `fsync`, `synchronous_commit`, JIT and parallel query are off.
- Look-ups: the time of a transaction of [pgbench](lookup/) `-M prepared`, which picks one of the queries compared and a key at random
  each time; warm; {largest} clients, keys of 19 digits. With a connection for each look-up, its time is included.
- Calls, inserts and migration: timed inside the server, over keys of 50 bytes ([functions.sql](functions.sql), [inserts.sql](inserts.sql),
  [migration.sql](migration.sql)). Calls and inserts take turns some thousand at a time, migrations whole. The trigger is compared on tables
  without an index, inserts on tables with the unique index that `protect_api_keys` makes. The trigger in C that hashes nothing is
  `insert_username` of PostgreSQL's contrib modules.
- bcrypt look-ups: cost 10, {medium} clients with tags of 16 bits. For the first time: sessions without memory of verified pairs. Again:
  the median of a session with it. Rows that nobody asks for hold well-formed hashes of cost 10 that are no key's."""


def main():
    source, machine, output = map(Path, sys.argv[1:4])
    largest, medium = map(int, sys.argv[4:6])
    measured = read(source)
    rows = summary(measured, goals(largest, medium))
    facts = [line.split("\t") for line in machine.read_text().splitlines()]
    (output / "RESULTS.md").write_text(RESULTS.format(
        machine="\n".join(f"- {name}: {value}" for name, value in facts),
        summary=markdown(rows),
        times=markdown(all_times(measured)),
        how=HOW.format(largest=count(largest), medium=count(medium)),
    ))
    (output / "lookup.svg").write_text(chart(measured, largest))
    print(plain(rows))
    print(f"\nwritten: {output / 'RESULTS.md'}, {output / 'lookup.svg'}")


if __name__ == "__main__":
    main()
