# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From runs to medians, ratios and the page that shows them. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

__all__ = ["RATIOS", "Ratio", "choices_page", "laid_out", "page", "ratios", "table"]

# case -> contestant -> one set of figures a repetition
Runs = Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]]


@dataclass(frozen=True)
class Ratio:
    """One figure of the table: a contestant's median, over another's where there is one to compare with."""

    key: str
    work: str
    case: str
    figure: tuple[str, str]
    against: tuple[str, str] | None
    limit: float
    least: bool = False  # whether the limit is a lower bound

    def value(self, runs: Runs) -> float | None:
        """None when its case was not run."""
        if self.case not in runs:
            return None
        value = self._median(runs, self.figure)
        return value if self.against is None else value / self._median(runs, self.against)

    def _median(self, runs: Runs, figure: tuple[str, str]) -> float:
        contestant, name = figure
        return median(figures[name] for figures in runs[self.case][contestant])

    def met(self, value: float) -> bool:
        return value >= self.limit if self.least else value <= self.limit

    @property
    def bar_text(self) -> str:
        return f"{'≥' if self.least else '≤'} {self.limit:g}"


def _times(key: str, case: str, work: str, peer: str, limit: float, ours: str = "ours") -> Ratio:
    return Ratio(key, work, case, (ours, "seconds"), (peer, "seconds"), limit)


_FULL = "full copy A→C over ssh, all blocks checked"
_BITMAP = "1 % changed (scattered 64 KiB), bitmap"
_DIGEST = "1 % changed, no bitmap"
_SLOW = "100 Mbit/s and 20 ms: share of the link's rate"
_WIDE = "ours, disk ten times as large"
RATIOS = (
    _times("full_vs_nbdcopy", "full", f"{_FULL}: time against nbdcopy", "nbdcopy", 1.0),
    _times("full_vs_rsync", "full", f"{_FULL}: time against rsync", "rsync", 0.35),
    _times("bitmap_vs_rsync", "bitmap", f"{_BITMAP}: time against rsync", "rsync", 0.1),
    _times("bitmap_vs_virtnbdbackup", "bitmap", f"{_BITMAP}: time against virtnbdbackup", "virtnbdbackup", 0.5),
    _times(
        "bitmap_40g_vs_4g", "bitmap", "the same change on a sparse disk ten times as large: time", "ours", 1.3, _WIDE
    ),
    _times("digest_vs_rsync", "digests", f"{_DIGEST}: time against rsync", "rsync", 0.5),
    Ratio(
        "digest_wire_vs_changed",
        f"{_DIGEST}: bytes sent, digests included, against bytes changed",
        "digests",
        ("ours", "bytes_sent"),
        ("ours", "bytes_changed"),
        1.1,
    ),
    _times("standby_vs_rsync", "standby", "C→B, 1 % changed: time against rsync", "rsync", 0.1),
    Ratio(
        "slow_link_share", f"{_SLOW}, incompressible", "slow_link", ("ours, noise", "share_of_link"), None, 0.9, True
    ),
    Ratio("slow_link_compressible", f"{_SLOW}, text", "slow_link", ("ours, text", "share_of_link"), None, 2.0, True),
    Ratio(
        "resume_bytes",
        "interrupted at 20 random points: bytes against uninterrupted",
        "resume",
        ("interrupted", "bytes"),
        ("uninterrupted", "bytes"),
        1.05,
    ),
    Ratio(
        "space_14_days",
        "14 days at 1 % a day: space on C against one image",
        "space",
        ("14 images", "bytes"),
        ("one image", "bytes"),
        1.15,
    ),
    Ratio("erase_seconds", "erase one day of a 1 TiB sparse image: seconds", "erase", ("ours", "seconds"), None, 1),
    Ratio(
        "guest_p99",
        "guest p99 fsync latency during a backup over 100 Mbit/s, against without",
        "guest",
        ("during a backup", "p99_ms"),
        ("alone", "p99_ms"),
        1.3,
    ),
    Ratio(
        "daily_idle_seconds",
        "daily with nothing changed, one VM: seconds",
        "idle",
        ("daily, an image is due", "seconds"),
        None,
        8,
    ),
    Ratio(
        "control_cpu_seconds_per_vm",
        "control node CPU seconds per further VM, many small stopped domains",
        "many",
        ("each further VM", "cpu_seconds"),
        None,
        2,
    ),
    Ratio("rss_mib", "resident memory of either end, MiB", "memory", ("the larger end", "mib"), None, 200),
)


# What such a figure is made of, and what was tried.
_MISSED = {
    "full_vs_nbdcopy": "Both ends make a SHA-256 of every block, and the image is on C's disk, checked, when the time "
    "ends; nbdcopy checks nothing. Two processors are busy all the time with three machines, so each second of work "
    "counts: digests take 2, zstd 2.4, which ssh has less of in turn (without it the time is the same), writing 1, "
    "Python itself 0.9. Tried: other requests and other levels of zstd; and hashing while the next is received, and "
    "writing to the disk while more comes, which stayed.",
    "full_vs_rsync": "rsync brings this file as fast as a bare ssh stream: a third of its time would be three times "
    "the rate of an ssh connection.",
    "bitmap_vs_rsync": "rsync reads 2 GiB at either end in some 3 s when all of it is in memory: a tenth of that is "
    "what one ssh connection takes to open.",
    "bitmap_vs_virtnbdbackup": "0.4 s open the snapshot in units that outlive whoever asked, 0.3 s open an ssh "
    "connection, 0.2 s start programs, 0.3 s read again a fourteenth of what the bitmap calls unchanged, at both "
    "ends, and 0.1 s clone the newest image. virtnbdbackup does none of it but the connection, and keeps a chain that "
    "has to be put together.",
    "digest_vs_rsync": "Both read everything: ours out of the socket of a machine that runs, and through SHA-256 at "
    "1.8 GB a second beside that; rsync a file at rest, through digests that prove less. What a copy takes however "
    "small it is, 1.5 s, is over a third of ours. Tried, and stayed: hashing where it lies while the next is "
    "received, and zeros told by a compare of their own.",
    "slow_link_share": "A bare ssh stream has what is shown below; the rest is opening the snapshot and the "
    "connection.",
    "guest_p99": "It scatters, since all three machines write to one disk here: what C writes while it receives is "
    "waited for by the guest's fsync as well.",
    "standby_vs_rsync": "Opening an ssh connection is a third of it, and a third of that is a key exchange that "
    "quantum computers don't undo either. Tried: X25519 alone opens one in 0.22 s instead of 0.33, and was left out, "
    "since what a disk holds is to stay secret for longer than that.",
    "daily_idle_seconds": "Eleven remote calls at 0.3 to 0.5 s, of which a bare ping has two thirds as well; the "
    "copying itself is a second and a half of it. Where nothing is due it takes half as long. Tried: fewer and "
    "smaller modules, questions to several machines at once.",
}


def ratios(runs: Runs) -> dict[str, float]:
    """The figures whose cases were run, by key."""
    found = {ratio.key: ratio.value(runs) for ratio in RATIOS}
    return {key: value for key, value in found.items() if value is not None}


def number(value: float) -> str:
    """Three digits that count, thousands set apart."""
    return f"{value:,.0f}".replace(",", " ") if abs(value) >= 1000 else f"{value:.3g}"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def table(runs: Runs) -> list[str]:
    """The figures as lines of a Markdown table."""
    lines = [_row("key", "work", "figure", "bar", "met"), _row("---", "---", "--:", "--:", "---")]
    for ratio in RATIOS:
        value = ratio.value(runs)
        if value is not None:
            met = "yes" if ratio.met(value) else "**no**"
            lines.append(_row(f"`{ratio.key}`", ratio.work, number(value), ratio.bar_text, met))
    return lines


def missed(runs: Runs) -> list[str]:
    """For each figure that misses its bar, what it is made of."""
    values = [(ratio, ratio.value(runs)) for ratio in RATIOS]
    keys = [ratio.key for ratio, value in values if value is not None and not ratio.met(value)]
    return [f"* `{key}`: {_MISSED[key]}" for key in keys if key in _MISSED]


def details(document: Mapping[str, Any]) -> list[str]:
    """Every contestant's figures: the median, and the least and greatest where there were several; and what was chosen
    by them, where they are there for that."""
    lines = []
    for case, contestants in document["runs"].items():
        title = document["titles"][case]
        lines += ["", f"### {title[:1].upper()}{title[1:]}", ""]
        if case in document.get("reasons", {}):
            lines += [document["reasons"][case], ""]
        lines += [_row("who", "what", "median", "least", "greatest", "runs"), _row("---", "---", *["--:"] * 4)]
        for contestant, repetitions in contestants.items():
            for name in repetitions[0]:
                values = [figures[name] for figures in repetitions]
                spread = (number(median(values)), number(min(values)), number(max(values)), str(len(values)))
                lines.append(_row(contestant, name.replace("_", " "), *spread))
    return lines


def laid_out(document: Mapping[str, Any]) -> str:
    """The figures as JSON, a line for each repetition of a contestant."""
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return re.sub(r"(?<=\n {8})\{[^{}]*\}", lambda run: " ".join(run.group().split()), text)


def _where(facts: Mapping[str, Any]) -> list[str]:
    return [
        f"* Date: {facts['date']}, commit {facts['commit']}",
        f"* Machine: {facts['processor']}, {facts['processors']} processors for three machines and their guests,"
        f" {facts['memory_mib']} MiB of memory, load {facts['load']:.1f} before the run",
    ]


def choices_page(document: Mapping[str, Any]) -> str:
    """docs/choices.md of the JSON document of a run of choices."""
    lines = [
        "# What the engine's constants rest on",
        "",
        "Each way measured alone, on the machines of the benchmarks, with nothing beside it. Written by",
        "`tests/bench/run --choices`. What the whole of it brings is told in [performance](performance.md).",
        "",
        *_where(document["facts"]),
        *details(document),
    ]
    return "\n".join(lines) + "\n"


def page(document: Mapping[str, Any]) -> str:
    """docs/performance.md of a run's JSON document."""
    facts = document["facts"]
    lines = [
        "# Performance",
        "",
        "Ours beside the tools one would otherwise use, on the same data, in one run, their repetitions interleaved;",
        "every copy was compared with its source. Written by `tests/bench/run --page`.",
        "",
        *_where(facts),
        f"* Data: a disk of {facts['size_mib']} MiB, half of it filled with text, noise, repetition and zeros",
        f"* Programs: {'; '.join(facts['versions'])}",
        "* Ours: from opening the snapshot to the image published and checked on C, without Ansible: process starts,"
        " ssh and fsync included.",
        "* Peers: their whole commands, with the cipher ours uses; of `nbdcopy` and `qemu-img` the backup job's begin"
        " and end too, and `copy seconds` is their copying alone. `rsync` reads a file at rest, which no running"
        " machine's is.",
        "",
        "## Figures",
        "",
        *table(document["runs"]),
        "",
        "## Where a bar is missed",
        "",
        *missed(document["runs"]),
        "",
        "## Runs",
        *details(document),
    ]
    return "\n".join(lines) + "\n"
