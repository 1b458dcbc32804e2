# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about how libvirt is asked, and what its words mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from unit.libvirt_fakes import MARK, NO_JOB, UUID, World, disk, domain, facts_answer, never, refused, said

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _virsh
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError

OURS = (
    "<domainbackup mode='pull'><server transport='unix' socket='/run/resilient-vm/acme/erp/qemu/nbd.sock'/>"
    "</domainbackup>"
)
THEIRS = "<domainbackup mode='pull'><server transport='unix' socket='/run/other/s'/></domainbackup>"
PUSH = "<domainbackup mode='push'/>"
VERSIONS = said("Running against daemon: 9.0.0\nRunning hypervisor: QEMU 7.2.22\n")
FOLDER = "/run/resilient-vm/acme/erp"


def virsh(world: World) -> _virsh.Virsh:
    return _virsh.Virsh(world, sleep=never)


def test_one_process_tells_all_facts_of_a_domain() -> None:
    sizes = "vda 268435456 2297856 1507328\n sda - - -"
    world = World({"virsh dumpxml": facts_answer(domain(disk()), sizes=sizes, checkpoints="resilient-vm-1\ntheirs")})
    facts = virsh(world).facts(UUID)
    assert len(world.calls) == 1
    assert (facts.state, facts.reason, facts.running) == ("running", "booted", True)
    assert facts.sizes == {"vda": (268435456, 2297856)}
    assert (facts.own_checkpoints, facts.foreign_checkpoints) == (("resilient-vm-1",), ("theirs",))
    assert facts.job is None


@pytest.mark.parametrize(("xml", "ours"), [(OURS, True), (THEIRS, False), (PUSH, False)])
def test_a_backup_job_is_ours_only_by_where_its_socket_lies(xml: str, ours: bool) -> None:
    facts = virsh(World({"virsh dumpxml": facts_answer(domain(), job=xml)})).facts(UUID)
    assert facts.job is not None
    assert facts.job.within(FOLDER) is ours


def test_a_neighbours_folder_with_the_same_beginning_is_not_ours() -> None:
    assert not _virsh.Job("/run/resilient-vm/acme/erp2/qemu/nbd.sock").within(FOLDER)


def test_no_word_about_a_job_is_not_taken_for_no_job() -> None:
    answer = facts_answer(domain())
    world = World({"virsh dumpxml": refused("error: something else")})
    world.answers["virsh dumpxml"] = type(answer)(1, answer.stdout, "error: something else")
    with pytest.raises(ResilientVmError, match="backup job"):
        virsh(world).facts(UUID)


@pytest.mark.parametrize(
    "stderr",
    [
        "error: failed to connect to the hypervisor\nerror: Failed to connect socket to '/run/libvirt-sock'",
        "error: Disconnected from qemu:///system due to end of file",
        "error: End of file while reading data: Input/output error",
    ],
)
def test_a_silent_libvirt_is_told_from_a_no(stderr: str) -> None:
    with pytest.raises(_virsh.Unreachable):
        virsh(World({"virsh": refused(stderr)})).job(UUID)


def test_domains_are_found_by_whole_name_even_when_it_looks_like_a_number() -> None:
    world = World({"virsh list --all --uuid --name": said(f"{UUID} 7\nother name with space\n\n")})
    assert virsh(world).domains() == {"7": UUID, "name with space": "other"}


def test_a_domain_that_is_gone_has_no_state_and_no_job() -> None:
    world = World({"virsh": refused(f"error: failed to get domain '{UUID}'")})
    assert virsh(world).state(UUID) == ("", "")
    assert virsh(world).job(UUID) is None


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("running (booted)\n\n", ("running", "booted")),
        ("shut off (crashed)\n", ("shut off", "crashed")),
        ("paused (I/O error)\n", ("paused", "I/O error")),
        ("running\n", ("running", "")),
    ],
)
def test_states_are_read_with_their_reason(text: str, state: tuple[str, str]) -> None:
    assert virsh(World({"virsh domstate": said(text)})).state(UUID) == state


def test_ending_our_job_waits_until_it_is_gone() -> None:
    world = World({"virsh backup-dumpxml": [said(OURS), said(OURS), refused(NO_JOB)], "virsh domjobabort": said()})
    assert virsh(world).abort_backup(UUID, FOLDER) is True
    assert world.asked("virsh domjobabort") == ["virsh domjobabort"]


@pytest.mark.parametrize("job", [said(THEIRS), said(PUSH), refused(NO_JOB)])
def test_nobody_elses_job_is_ever_ended(job: object) -> None:
    world = World({"virsh backup-dumpxml": job})
    assert virsh(world).abort_backup(UUID, FOLDER) is False
    assert not world.asked("virsh domjobabort")


def test_a_job_that_ends_by_itself_while_it_is_aborted_has_ended() -> None:
    gone = refused("error: Requested operation is not valid: no job is active on the domain")
    world = World({"virsh backup-dumpxml": [said(OURS), refused(NO_JOB)], "virsh domjobabort": gone})
    assert virsh(world).abort_backup(UUID, FOLDER) is True


def test_an_abort_that_is_refused_is_asked_again_and_told() -> None:
    busy = refused("error: internal error: End of file from qemu monitor (vm='erp')")
    world = World({"virsh backup-dumpxml": [said(OURS)] * 3 + [refused(NO_JOB)], "virsh domjobabort": [busy, said()]})
    assert virsh(world).abort_backup(UUID, FOLDER) is True
    assert world.asked("virsh domjobabort") == ["virsh domjobabort"] * 2
    world = World({"virsh backup-dumpxml": said(OURS), "virsh domjobabort": busy})
    with pytest.raises(ResilientVmError, match=r"does not end .* End of file from qemu monitor"):
        virsh(world).abort_backup(UUID, FOLDER)


def test_libvirt_has_its_30_seconds_to_end_the_job_of_a_machine_that_shut_down() -> None:
    waited: list[float] = []
    world = World(
        {
            "virsh backup-dumpxml": lambda _words: said(OURS) if sum(waited) < 35 else refused(NO_JOB),
            "virsh domjobabort": said(),
        }
    )
    assert _virsh.Virsh(world, sleep=waited.append).abort_backup(UUID, FOLDER) is True


def test_a_job_that_does_not_end_is_told() -> None:
    world = World({"virsh backup-dumpxml": said(OURS), "virsh domjobabort": said()})
    with pytest.raises(ResilientVmError, match="does not end"):
        virsh(world).abort_backup(UUID, FOLDER)


def test_a_checkpoint_whose_bitmap_died_is_forgotten_by_its_metadata() -> None:
    world = World(
        {"virsh checkpoint-delete": [refused("error: bitmap 'x' not found in backing chain of 'vda'"), said()]}
    )
    virsh(world).delete_checkpoint(UUID, "x")
    assert world.calls == [f"virsh checkpoint-delete {UUID} x", f"virsh checkpoint-delete {UUID} x --metadata"]


def test_frozen_file_systems_are_counted() -> None:
    world = World(
        {"virsh domfsfreeze": said("Froze 3 filesystem(s)\n"), "virsh domfsthaw": said("Thawed 0 filesystem(s)")}
    )
    assert (virsh(world).freeze(UUID, 1), virsh(world).thaw(UUID, 1)) == (3, 0)


@pytest.mark.parametrize(
    ("text", "busy"),
    [
        ("Job type:         None\n", ""),
        ("Job type:         Unbounded\nOperation:        Outgoing migration\n", "Outgoing migration"),
    ],
)
def test_what_libvirt_is_busy_with_is_told(text: str, busy: str) -> None:
    assert detailed({"virsh domjobinfo": said(text)}).busy == busy


def test_a_stopped_machine_is_not_asked_what_it_is_busy_with() -> None:
    assert detailed({"virsh domjobinfo": AssertionError("nobody asks")}, running=False).busy == ""


def test_a_machine_that_stops_meanwhile_is_told_of() -> None:
    with pytest.raises(ResilientVmError, match=r"busy with: .*domain is not running"):
        detailed({"virsh domjobinfo": refused("error: Requested operation is not valid: domain is not running")})


def detailed(
    answers: dict[str, Any], running: bool = True, checkpoints: Sequence[str] = (), sized: Sequence[str] = ()
) -> _virsh.Details:
    known = {"virsh domjobinfo": said("Job type: None"), "virsh version": VERSIONS, **answers}
    return virsh(World(known)).details(UUID, running, checkpoints, sized)


def test_a_checkpoint_tells_which_files_it_counts_on() -> None:
    xml = (
        "<domaincheckpoint><name>c</name><disks><disk name='vda' checkpoint='bitmap' bitmap='c'/>"
        f"<disk name='vdb' checkpoint='no'/></disks>{domain(disk('vda'), disk('vdb'))}</domaincheckpoint>"
    )
    answers = {
        f"virsh checkpoint-dumpxml {UUID} c": said(xml),
        f"virsh checkpoint-dumpxml {UUID} d": refused("error: gone"),
    }
    assert detailed(answers, checkpoints=["d", "c"]).sources == {"c": {"vda": "/images/vda.qcow2"}}


def test_sizes_libvirt_cannot_tell_are_left_out() -> None:
    xml = "<domaincheckpoint><disks><disk name='vda' size='131072'/><disk name='vdb'/></disks></domaincheckpoint>"
    answers = {
        f"virsh checkpoint-dumpxml {UUID} c --size": said(xml),
        f"virsh checkpoint-dumpxml {UUID} d --size": refused("error: broken bitmap"),
    }
    assert detailed(answers, sized=["d", "c"]).sizes == {"d": {}, "c": {"vda": 131072}}


def test_all_that_opening_asks_is_one_program() -> None:
    world = World({"virsh domjobinfo": said("Job type: None"), "virsh checkpoint": said(), "virsh version": VERSIONS})
    virsh(world).details(UUID, True, ["c", "d"], ["d"])
    assert world.several == [
        f"domjobinfo {UUID}; echo {MARK}; checkpoint-dumpxml {UUID} c --security-info; echo {MARK}; "
        f"checkpoint-dumpxml {UUID} d --security-info; echo {MARK}; checkpoint-dumpxml {UUID} d --size --no-domain; "
        f"echo {MARK}; version --daemon"
    ]


def test_one_look_is_one_program_and_tells_what_two_questions_do() -> None:
    world = World({"virsh domstate": said("paused (I/O error)\n"), "virsh backup-dumpxml": said(OURS)})
    assert virsh(world).look(UUID) == (virsh(world).state(UUID), virsh(world).job(UUID))
    gone = World({"virsh": refused(f"error: failed to get domain '{UUID}'")})
    assert virsh(gone).look(UUID) == (("", ""), None)


@pytest.mark.parametrize("silent", ["domstate", "backup-dumpxml"])
def test_a_libvirt_that_falls_silent_in_the_middle_of_a_look_is_told_from_a_no(silent: str) -> None:
    broke = refused("error: End of file while reading data: Input/output error")
    answers = {"virsh domstate": said("running (booted)"), "virsh backup-dumpxml": said(OURS), f"virsh {silent}": broke}
    with pytest.raises(_virsh.Unreachable):
        virsh(World(answers)).look(UUID)


def test_a_failed_order_is_one_sentence_with_libvirts_reason() -> None:
    world = World(
        {"virsh resume": refused("error: Failed to resume domain\nerror: Requested operation is not valid\n")}
    )
    with pytest.raises(
        ResilientVmError, match="virsh resume failed: Failed to resume domain; Requested operation is not valid"
    ):
        virsh(world).resume(UUID)


def test_an_announcement_that_qemu_refuses_is_told() -> None:
    """virsh succeeds all the same: an error of QEMU's is an answer."""
    assert virsh(World({"virsh qemu-monitor-command": said('{"return":{},"id":"libvirt-1"}')})).announce(UUID) == ""
    told = virsh(World({"virsh qemu-monitor-command": said('{"id":"l","error":{"desc":"no"}}')})).announce(UUID)
    assert '"desc":"no"' in told
    assert virsh(World({"virsh qemu-monitor-command": refused("error: gone")})).announce(UUID) == "gone"
