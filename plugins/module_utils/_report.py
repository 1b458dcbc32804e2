# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person reads at the end of a run: what came of each VM, and how each one is protected now.

Everything is told from what the tasks of role ``cycle`` registered for a VM, under the names they have there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from . import _clock, _drill_point, _kept_report, _mended, _unwitnessed
from ._copy_report import copied, missed
from ._human import human_age, human_size, progress_text
from ._preflight import active_host, standby_host
from ._questions import told_of
from ._readiness import lacks
from ._retention import Image, Policy, next_erase
from ._standing import standing, stopped

__all__ = ["failures", "recap", "status", "status_table"]

_DISK_MEMBERS = ("target", "size_bytes", "found_by", "reason", "bytes_sent", "proven")
HostVars = Mapping[str, Mapping[str, Any]]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _done(registered: Any) -> dict[str, Any]:
    """What a task returned, or nothing when it was skipped, failed or never reached."""
    if not registered or registered.get("skipped") or registered.get("failed"):
        return {}
    return dict(registered)


# after a run of daily


def failures(variables: Mapping[str, Any]) -> list[str]:
    """Why a VM's run is red, one sentence each; nothing when it isn't."""
    if variables.get("cycle_plan") is None:
        return ["its run was cut off before it began; see above"]
    decision = _decision(variables)
    found = [*(variables.get("cycle_failures") or []), *(decision.get("later") or [])]
    if not found and not decision:
        found.append("its run was cut off; see above")
    found += _lacks(variables, decision)
    fetched = _done(variables.get("cycle_fetch"))
    if fetched.get("bitmap_mismatches"):
        found.append(
            f"the dirty bitmap had missed {_count(fetched['bitmap_mismatches'], 'changed block')} of image "
            f"{fetched['image_id']} ({missed(fetched)}); the image is right, but find out who wrote behind QEMU's back"
        )
    for hop, keeper in (("cycle_fetch", "backup storage"), ("cycle_refresh", "standby host")):
        damaged = _done(variables.get(hop)).get("damaged") or []
        if damaged:
            places = ", ".join(sorted({f"{mark['image']} disk {mark['disk']}" for mark in damaged}))
            found.append(
                f"{_count(len(damaged), 'block')} of what the {keeper} held {'was' if len(damaged) == 1 else 'were'} "
                f"damaged ({places}) and came again for the new image; check that machine's disks"
            )
    return [str(sentence) for text in found for sentence in str(text).splitlines()]


def _lacks(variables: Mapping[str, Any], decision: Mapping[str, Any]) -> list[str]:
    """Why the standby could not take the VM over: by what it was brought tonight, else by what it holds."""
    plan, standby = variables["cycle_plan"].get("plan"), decision.get("standby")
    if not plan or not standby:
        return []
    known, held = (
        told_of(variables.get(register) or {}, plan).get(standby) or {}
        for register in ("cycle_hosts", "cycle_standbys")
    )
    unfit = _done(variables.get("cycle_standby")).get("unfit", held.get("unfit") or [])
    return [f"a takeover would not work: {text}" for text in lacks(plan, standby, known, held, unfit)]


def _decision(variables: Mapping[str, Any]) -> dict[str, Any]:
    return dict((variables.get("cycle_preflight") or {}).get("decision") or {})


def recap(hostvars: HostVars, vms: Iterable[str], check_mode: bool = False) -> list[str]:
    """Lines that say for each VM what was copied, what was erased and how fresh the standby is, or why it failed."""
    lines: list[str] = []
    failed = []
    names = list(vms)
    for vm in names:
        variables = hostvars[vm]
        wrong = failures(variables)
        lines.append(f"{vm}: {'FAILED' if wrong else 'ok'}")
        lines += [f"    FAILED: {sentence}" for sentence in wrong]
        lines += [f"    {line}" for line in _story(variables, check_mode)]
        if wrong:
            failed.append(vm)
    lines.append(
        f"{len(failed)} of {len(names)} VMs failed: {', '.join(failed)}"
        if failed
        else f"{len(names)} of {len(names)} VMs ok"
    )
    return lines


def _story(variables: Mapping[str, Any], check_mode: bool) -> list[str]:
    decision = _decision(variables)
    if not decision:
        return []
    plan = variables["cycle_plan"]["plan"]
    lines = [*_copied(variables, decision, plan), *_standby(variables, decision, plan), *_erased(variables, check_mode)]
    if (_done(variables.get("cycle_close")).get("changed")) and not decision["take_image"]:
        verb = "would clear away" if check_mode else "cleared away"
        lines.append(f"{verb} on {decision['active']} what an earlier run had left")
    return lines + _kept_report.erased(variables.get("cycle_aside"), check_mode) + list(decision["notes"])


def _copied(variables: Mapping[str, Any], decision: Mapping[str, Any], plan: Mapping[str, Any]) -> list[str]:
    storage, now = plan["backup_storage"], _clock.now(plan["nows"].get("localhost"))
    fetched = _done(variables.get("cycle_fetch"))
    if not decision["take_image"] or not fetched:
        newest = decision["newest_complete_id"]
        held = f"newest image on {storage}: {_aged(newest, now)}" if newest else f"no image on {storage}"
        return [f"no image taken: {decision['why']}" if not decision["take_image"] else "no image taken", held]
    if not fetched["published"]:
        return [f"would take an image and copy it to {storage}: {decision['why']}"]
    if "disks" not in fetched:
        return [f"image {fetched['image_id']} was on {storage} already"]
    return copied(fetched, storage, bool(plan["verify_source"]))


def _standby(variables: Mapping[str, Any], decision: Mapping[str, Any], plan: Mapping[str, Any]) -> list[str]:
    standby, now = decision["standby"], _clock.now(plan["nows"].get("localhost"))
    refreshed, switched = _done(variables.get("cycle_refresh")), _done(variables.get("cycle_standby"))
    if refreshed and switched:
        sent = f", {human_size(refreshed['bytes_sent'])} sent" if "bytes_sent" in refreshed else ""
        return [f"standby {standby} holds {_aged(refreshed['image_id'], now)}, defined and ready to start{sent}"]
    held = decision["standby_generation"]
    if held:
        held = _aged(held, now)
    if refreshed:
        return [f"standby {standby} has received {refreshed['image_id']}, but its current generation is still {held}"]
    return [f"standby {standby} holds {held or 'nothing yet'}"]


def _aged(image_id: str, now: datetime) -> str:
    return f"{image_id} ({human_age(now - _clock.instant(image_id))} old)"


def _erased(variables: Mapping[str, Any], check_mode: bool) -> list[str]:
    pruned = _done(variables.get("cycle_prune"))
    if not pruned:
        return []
    kept = f"{_count(len(pruned['kept']), 'image')} kept"
    if not pruned["erased"]:
        return [f"nothing to erase, {kept}"]
    verb = "would erase" if check_mode else "erased"
    return [f"{verb} {', '.join(entry['id'] for entry in pruned['erased'])}; {kept}"]


# status


def status(hostvars: HostVars, vms: Iterable[str]) -> list[dict[str, Any]]:
    """How each VM is protected. Ages are data time: since the instant of the snapshot, not of any copying."""
    return [_row(vm, hostvars[vm]) for vm in vms]


def _row(vm: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    plan = (variables.get("cycle_plan") or {}).get("plan")
    if not plan:
        problems = [str(text) for text in variables.get("cycle_failures") or ["its plan could not be read"]]
        return {"vm": vm, "alarm": f"{vm} is not looked after: {problems[0]}", "problems": problems}
    hosts = told_of(variables.get("cycle_hosts") or {}, plan)
    active, standby = active_host(plan, hosts), standby_host(plan, hosts)
    stored = _entry(variables, "cycle_images", plan, plan["backup_storage"], hosts)
    held = _entry(variables, "cycle_standbys", plan, standby, hosts)
    now = _clock.now(plan["nows"].get("localhost"))
    images = stored.get("images") or []
    newest, current = stored.get("newest"), held.get("current")
    age = now - _clock.instant(newest["id"]) if newest else None
    disks, drills = newest["disks"] if newest else [], stored.get("drills") or []
    lacking = lacks(plan, standby, hosts.get(standby) or {}, held, held.get("unfit") or [])
    moved = standing(plan, hosts, active, standby, bool(held.get("former"))) if stored.get("answered") else None
    return {
        "vm": vm,
        "customer": plan["customer"],
        "active_host": active,
        "standby_host": standby,
        "backup_storage": plan["backup_storage"],
        "newest_image": newest["id"] if newest else None,
        "newest_instant": newest["instant"] if newest else None,
        "newest_age_seconds": None if age is None else int(age.total_seconds()),
        "consistency": newest["consistency"] if newest else None,
        "images": len(images),
        "images_damaged": [image["id"] for image in images if image.get("damaged")],
        "pinned": {image["id"]: image["pinned_by"] for image in images if image.get("pinned_by")},
        "oldest_image": min((image["id"] for image in images), default=None),
        "standby_generation": current["id"] if current else None,
        "standby_age_seconds": int((now - _clock.instant(current["id"])).total_seconds()) if current else None,
        "standby_defined": held.get("defined"),
        "bytes_sent": sum(disk["bytes_sent"] for disk in disks) if newest else None,
        "disks": [
            {
                **{name: disk.get(name) for name in _DISK_MEMBERS},
                "proven_share": _proven_share(disk),
            }
            for disk in disks
        ],
        "excluded": newest["excluded"] if newest else plan["exclude_disks"],
        "next_erase": _next_erase(images, plan),
        "drill": _drill_point.proven(drills),
        "images_proven": sum(1 for drill in drills if drill["passed"]),
        "mended": [*(stored.get("mended") or []), *(held.get("mended") or [])],
        "stopped": stopped(hosts, active),
        "kept_aside": _kept_report.kept(hosts, plan["keep_aside_days"]),
        "transfers": stored.get("transfers") or [],
        "max_age_hours": plan["max_age_hours"],
        "problems": _row_problems(plan, hosts, stored, held, standby),
        "lacks": lacking,
        "crowded": f"on {standby}: {held['crowded']}" if held.get("crowded") else "",
        "alarm": _unwitnessed.told(plan, hosts, images, told_of(variables.get("cycle_standbys") or {}, plan))
        or (moved.alarm if moved else "")
        or _alarm(vm, plan, stored, age)
        or _damaged(vm, plan["backup_storage"], stored, standby, held)
        or (f"{vm} could not be taken over: {lacking[0]}" if lacking else "")
        or _drill_point.alarm(vm, drills),
    }


def _entry(
    variables: Mapping[str, Any], register: str, plan: Mapping[str, Any], machine: str, hosts: Mapping[str, Any]
) -> Mapping[str, Any]:
    """What a machine said when asked a second time; when it wasn't, what it said the first time."""
    told = told_of(variables.get(register) or {}, plan).get(machine)
    if told is None:
        told = {"answered": False, "msg": (hosts.get(machine) or {}).get("msg") or f"{machine} was not asked"}
    return told


def _proven_share(disk: Mapping[str, Any]) -> float:
    """Which part of a disk has been read again, and found right, since its running round began; 0 to 1."""
    proven = disk.get("proven") or {}
    blocks = -(-disk["size_bytes"] // disk.get("block_size", 65536))
    return min(proven.get("next_block", 0) / blocks, 1.0) if blocks else 1.0


def _next_erase(images: Sequence[Mapping[str, Any]], plan: Mapping[str, Any]) -> dict[str, str] | None:
    periods = (plan["keep_weekly"], plan["keep_monthly"], plan["keep_yearly"])
    policy = Policy(plan["retention_days"], plan["retention_minimum"], _clock.zone(plan["timezone"]), *periods)
    seen = [
        Image(image["id"], image.get("epoch", 0), image["complete"], tuple(image["pinned_by"]), image["reading"])
        for image in images
    ]
    found = next_erase(seen, policy)
    return {"image": found.image.id, "day": found.day.isoformat()} if found else None


def _row_problems(
    plan: Mapping[str, Any],
    hosts: Mapping[str, Mapping[str, Any]],
    stored: Mapping[str, Any],
    held: Mapping[str, Any],
    standby: str,
) -> list[str]:
    found = [str(fact["msg"]) for fact in hosts.values() if not fact["answered"]]
    for name, answer in ((plan["backup_storage"], stored), (standby, held)):
        if "msg" in answer and answer["msg"] not in found:
            found.append(str(answer["msg"]))
        found += [f"{name}: {sentence}" for sentence in answer.get("problems") or []]
    return found


def _alarm(vm: str, plan: Mapping[str, Any], stored: Mapping[str, Any], age: timedelta | None) -> str:
    storage = plan["backup_storage"]
    if not stored.get("answered"):
        return f"the age of the newest image of {vm} is unknown: {stored['msg']}"
    if age is None:
        return f"{vm} has no image on {storage}; run the daily playbook"
    if age < -timedelta(seconds=plan["max_clock_skew_seconds"]):
        return f"the newest image of {vm} is from the future, so its age is unknown; set the clocks, or erase it"
    if age > timedelta(hours=plan["max_age_hours"]):
        return (
            f"the newest image of {vm} is {human_age(age)} old, more than resilient_vm_max_age_hours "
            f"({plan['max_age_hours']}); run the daily playbook"
        )
    return ""


def _damaged(vm: str, storage: str, stored: Mapping[str, Any], standby: str, held: Mapping[str, Any]) -> str:
    for machine, images in ((storage, stored.get("images")), (standby, held.get("generations"))):
        damaged = [image["id"] for image in images or [] if image.get("damaged") or image.get("problem")]
        if damaged:
            verb = "is" if len(damaged) == 1 else "are"
            return (
                f"of what {machine} keeps of {vm}, {', '.join(damaged)} {verb} damaged; "
                "run the verify playbook, which mends what it can and names the rest"
            )
    return ""


def status_table(hostvars: HostVars, vms: Iterable[str]) -> list[str]:
    """The rows of status for people: a line a VM, and below it what deserves a look."""
    rows = status(hostvars, vms)
    head = (
        "VM",
        "newest image (data time)",
        "age",
        "images",
        "oldest",
        "standby",
        "age",
        "sent",
        "found by",
        "next erase",
    )
    cells = [head, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    lines = []
    for line, row in zip(cells, [None, *rows]):
        lines.append("  ".join(text.ljust(width) for text, width in zip(line, widths)).rstrip())
        if row is not None:
            lines += [f"    {remark}" for remark in _remarks(row)]
    return lines


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    if "images" not in row:
        return (row["vm"], *("-" for _column in range(9)))
    ways = sorted({disk["found_by"] for disk in row["disks"]})
    erase = row["next_erase"]
    return (
        row["vm"],
        f"{row['newest_instant']} {row['consistency']}" if row["newest_image"] else "none",
        _age_cell(row["newest_age_seconds"]),
        str(row["images"]),
        row["oldest_image"] or "-",
        row["standby_generation"] or "none",
        _age_cell(row["standby_age_seconds"]),
        "-" if row["bytes_sent"] is None else human_size(row["bytes_sent"]),
        ", ".join(ways) or "-",
        f"{erase['image']} on {erase['day']}" if erase else "-",
    )


def _age_cell(seconds: int | None) -> str:
    return "-" if seconds is None else human_age(timedelta(seconds=seconds))


def _remarks(row: Mapping[str, Any]) -> list[str]:
    remarks = [f"ALARM: {row['alarm']}"] if row["alarm"] else []
    remarks += [text for text in row["problems"] if text not in row["alarm"]]
    if "images" not in row:
        return remarks
    remarks += row["stopped"]
    remarks += [f"a takeover would not work: {text}" for text in row["lacks"] if text not in row["alarm"]]
    remarks += [row["crowded"]] if row["crowded"] else []
    if row["excluded"]:
        remarks.append(f"excluded: {', '.join(row['excluded'])}")
    remarks += [f"pinned: {image} ({', '.join(reasons)})" for image, reasons in row["pinned"].items()]
    if row["standby_generation"] and not row["standby_defined"]:
        remarks.append(f"not defined on {row['standby_host']}; the next daily run does it")
    remarks += [f"disk {disk['target']}: {disk['reason']}" for disk in row["disks"] if disk["reason"]]
    remarks += [_proof(disk) for disk in row["disks"]]
    remarks.append(_drill_point.proof(row["drill"], row["images_proven"], row["images"]))
    remarks += _mended.remarks(row["mended"])
    remarks += _kept_report.remarks(row["kept_aside"])
    remarks += [f"running now: {progress_text(transfer)}" for transfer in row["transfers"]]
    return remarks


def _proof(disk: Mapping[str, Any]) -> str:
    proven = disk["proven"] or {}
    whole = f"proven by re-reading as a whole at {proven['full_round']}" if proven.get("full_round") else ""
    share = f"{100 * disk['proven_share']:.0f} % proven by re-reading since {proven.get('round_started')}"
    if not disk["proven_share"]:
        return f"disk {disk['target']}: {whole or 'nothing proven by re-reading yet'}"
    return f"disk {disk['target']}: {share}{', before that ' * bool(whole)}{whole}"
