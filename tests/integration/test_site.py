# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims about site and unprotect, on fresh machines: A on Debian 12, B on Debian 13, C on Debian 12.

The tests stand in the order in which a customer's machines come to life; each leaves them as it found them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from integration.world import ROOT, STORE, Played, World

# All in the long campaigns: it has machines of its own, and the molecule scenarios run site on bare ones, too.
pytestmark = pytest.mark.soak

HOSTS = ("a", "b", "c")
ADDRESS = {"a": "10.77.0.11", "b": "10.77.0.12", "c": "10.77.0.13"}
# All that the collection could lay anything into. Locks name their last holder, so their content may differ.
_TREE = r"""
cd /
find etc usr/local var/lib/resilient-vm run/resilient-vm -printf '%M %u:%g %p %l\n' 2>/dev/null | sort
find etc usr/local var/lib/resilient-vm run/resilient-vm -type f ! -name lock ! -name '*.lock' \
  -exec sha256sum {} + 2>/dev/null | sort -k 2
"""


def tree(world: World, host: str) -> str:
    return world.on(host, _TREE)


def trees(world: World) -> dict[str, str]:
    return {host: tree(world, host) for host in HOSTS}


@dataclass
class Story:
    """Check, do, check, do of site on bare machines."""

    bare: dict[str, str]
    checked: Played
    after_check: dict[str, str]
    done: Played
    laid: dict[str, str]
    again: list[Played] = field(default_factory=list)
    after_again: dict[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Three bare machines of their own; erp lies on A, stopped, and web is still to be made."""
    world = World(Path(os.environ.get("RVM_TEST_LAB", ROOT / ".dev/lab-test")).with_name("lab-site"))
    world.lab("destroy")
    world.lab("up", "--release-of", "b=trixie", timeout=1200)
    world.lab("guest", "create", "a", "erp", "--kind", "tiny")
    yield world
    world.lab("destroy")


@pytest.fixture(scope="module")
def story(world: World) -> Story:
    bare = trees(world)
    checked = world.play("site", "--check", "--diff")
    after_check = trees(world)
    done = world.play("site")
    laid = trees(world)
    again = [world.play("site", "--check", "--diff"), world.play("site")]
    return Story(bare, checked, after_check, done, laid, again, trees(world))


def test_check_mode_on_bare_machines_runs_through_and_changes_nothing(story: Story) -> None:
    assert story.checked.changed > 0
    assert story.after_check == story.bare


def test_check_mode_shows_what_will_be_laid(story: Story) -> None:
    assert "forced acme/erp send,receive,restore,mend" in story.checked.output
    assert "MaxSessions" in story.checked.output


def test_a_second_run_changes_nothing(story: Story) -> None:
    assert story.done.changed > 0
    assert [played.changed for played in story.again] == [0, 0]
    assert story.after_again == story.laid


@pytest.mark.usefixtures("story")
def test_every_machine_runs_the_same_mover(world: World) -> None:
    versions = {world.on(host, "resilient-vm version") for host in HOSTS}
    assert len(versions) == 1
    assert "+" in versions.pop()


@pytest.mark.usefixtures("story")
def test_every_machine_has_the_same_state(world: World) -> None:
    states = [json.loads(world.on(host, f"cat {STORE}/erp/state.json")) for host in HOSTS]
    uuid = world.on("a", "virsh domuuid erp")
    for state in states:
        assert (state["epoch"], state["active"], state["standby"], state["phase"]) == (1, "a", "b", "protected")
        assert state["uuid"] == uuid
    assert [state["max_age_hours"] for state in states] == [None, None, 26.0]


@pytest.mark.usefixtures("story")
def test_the_run_time_folder_is_there_after_a_reboot(world: World) -> None:
    world.lab("down", "c")
    world.lab("up", "c")
    assert world.on("c", "stat -c '%a %U' /run/resilient-vm") == "711 root"


def as_storage(world: World, host: str, *options: str, command: str = "", vm: str = "erp", stdin: str = "") -> str:
    """What the backup storage gets to see that uses a VM's key on a host; the exit code comes last."""
    ssh = f"ssh -i {STORE}/.ssh/{vm} -o BatchMode=yes -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes"
    words = (
        f"{ssh} -o UserKnownHostsFile={STORE}/.ssh/known_hosts {' '.join(options)} rvm-acme@{ADDRESS[host]} {command}"
    )
    return world.on("c", f"printf '%s' '{stdin}' | runuser -u rvm-acme -- {words} 2>&1; echo exit $?", timeout=60)


REFUSED = "this key may only ask for send or receive or restore or mend or lend of acme/erp"


@pytest.mark.usefixtures("story")
@pytest.mark.parametrize("host", ["a", "b"])
@pytest.mark.parametrize(
    "command",
    [
        "",
        "id",
        "sh",
        "'sh -c id'",
        "'send; id'",
        "epoch",
        "'forced acme/web send'",
        "scp -f /etc/passwd",
    ],
)
def test_a_key_of_the_backup_storage_starts_nothing_but_its_verbs(world: World, host: str, command: str) -> None:
    answer = as_storage(world, host, command=command, stdin="id\n")
    assert REFUSED in answer
    assert answer.endswith("exit 1")
    assert "uid=" not in answer


@pytest.mark.usefixtures("story")
@pytest.mark.parametrize("host", ["a", "b"])
@pytest.mark.parametrize("door", ["acme/web", "../web", "0" * 32])
def test_what_follows_a_verb_names_a_stream_of_a_running_copy_and_nothing_else(
    world: World, host: str, door: str
) -> None:
    answer = as_storage(world, host, command=f"'send {door}'", stdin="id\n")
    assert "the transfer of acme/erp that this stream belongs to has ended" in answer
    assert answer.endswith("exit 1")


@pytest.mark.usefixtures("story")
def test_a_key_serves_its_own_vm_only(world: World) -> None:
    assert "of acme/web" in as_storage(world, "a", command="id", vm="web")


@pytest.mark.usefixtures("story")
@pytest.mark.parametrize("host", ["a", "b"])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("-W", "127.0.0.1:22"), "prohibited"),
        (("-N", "-o", "ExitOnForwardFailure=yes", "-R", "12345:127.0.0.1:22"), "forwarding failed"),
        (("-tt",), "PTY allocation request failed"),
        (("-s",), "exit 1"),
    ],
    ids=["forward out", "forward in", "terminal", "sftp"],
)
def test_a_key_of_the_backup_storage_opens_nothing(
    world: World, host: str, options: tuple[str, ...], words: str
) -> None:
    command = "sftp" if "-s" in options else ""
    answer = as_storage(world, host, *options, command=command)
    assert words in answer
    assert not answer.endswith("exit 0")


@pytest.mark.usefixtures("story")
@pytest.mark.parametrize("host", ["a", "b"])
def test_a_host_may_ask_the_backup_storage_who_is_active_and_claim_the_vm_and_nothing_else(
    world: World, host: str
) -> None:
    ssh = (
        "ssh -i /etc/resilient-vm/keys/acme.erp -o BatchMode=yes -o StrictHostKeyChecking=yes "
        f"-o UserKnownHostsFile=/etc/resilient-vm/known_hosts rvm-acme@{ADDRESS['c']}"
    )
    assert world.on(host, f"{ssh} epoch") == "1 a protected"
    for command in ("", "id", "send", "receive", f"'rm -rf {STORE}'", "'epoch; id'"):
        answer = world.on(host, f"{ssh} {command} 2>&1; echo exit $?")
        assert "this key may only ask for epoch or claim of acme/erp" in answer, command
        assert answer.endswith("exit 1")


@pytest.mark.usefixtures("story")
def test_an_account_logs_in_with_no_password_and_from_nowhere_else(world: World) -> None:
    for host in HOSTS:
        assert world.on(host, "getent shadow rvm-acme | cut -d: -f2") == "*"
        limits = world.on(host, f"sshd -T -C user=rvm-acme,host=x,addr={ADDRESS['c']}").splitlines()
        assert {"authenticationmethods publickey", "disableforwarding yes", "permittty no"} <= set(limits)


@pytest.mark.usefixtures("story")
def test_an_account_reads_neither_disks_nor_keys_nor_other_customers(world: World, tmp_path: Path) -> None:
    # Whoever made a disk decides who may read it; this is how virt-install and virsh vol-create make them.
    world.on("a", "chmod 600 /var/lib/libvirt/images/*")
    disks = world.on("a", "virsh domblklist erp --details | awk '$2 == \"disk\" {print $4}'").split()
    assert disks
    extra = world.inventory_file(tmp_path / "extra.json", vms={"shop": {"resilient_vm_customer": "globex"}})
    world.play("site", inventory=[extra])
    try:
        other = STORE.replace("acme", "globex")
        world.on("c", f"echo secret > {other}/shop/images/x; chown rvm-globex: {other}/shop/images/x")
        world.on("b", f"echo secret > {other}/shop/generations/x; chown rvm-globex: {other}/shop/generations/x")
        forbidden = {
            "a": [*disks, "/etc/resilient-vm/keys/acme.erp", "/etc/shadow", f"{other}/shop/state.json"],
            "b": [f"{other}/shop/generations/x", "/etc/resilient-vm/keys/acme.erp", f"{other}/shop/state.json"],
            "c": [f"{other}/shop/images/x", f"{other}/.ssh/shop", f"{other}/shop/state.json"],
        }
        for host, paths in forbidden.items():
            for path in paths:
                world.on(host, f"test -e {path}")
                answer = world.on(host, f"runuser -u rvm-acme -- cat {path} 2>&1 >/dev/null; echo exit $?")
                assert "Permission denied" in answer, (host, path)
                written = world.on(host, f"runuser -u rvm-acme -- sh -c 'echo x >> {path}' 2>&1; echo exit $?")
                assert "Permission denied" in written or "cannot create" in written, (host, path)
    finally:
        world.play("unprotect", "--limit", "shop", inventory=[extra], erase_images=True)


@pytest.mark.usefixtures("story")
def test_an_account_cannot_let_itself_in_or_change_its_state(world: World) -> None:
    for host in HOSTS:
        for path in (".ssh/authorized_keys", ".ssh/known_hosts", "erp/state.json"):
            answer = world.on(host, f"runuser -u rvm-acme -- sh -c 'echo x >> {STORE}/{path}' 2>&1; echo exit $?")
            assert not answer.endswith("exit 0"), (host, path)
            answer = world.on(host, f"runuser -u rvm-acme -- mv {STORE}/{path} {STORE}/x 2>&1; echo exit $?")
            assert not answer.endswith("exit 0"), (host, path)


@pytest.mark.usefixtures("story")
def test_the_watchdog_alarms_by_itself_by_its_unit_and_by_a_command(world: World) -> None:
    world.on("c", "systemctl start resilient-vm-age.service")
    assert world.on("c", "systemctl is-active resilient-vm-age.timer") == "active"
    world.on(
        "c", "printf '#!/bin/sh\\necho \"$1\" >> /tmp/alarm\\n' > /usr/local/bin/alarm; chmod 755 /usr/local/bin/alarm"
    )
    world.play("site", alarm_command="/usr/local/bin/alarm")
    try:
        later = world.on("c", "date -u -d '+30 hours' +%Y-%m-%dT%H:%M:%SZ")
        answer = world.on("c", f"resilient-vm age --now {later}; echo exit $?").splitlines()
        assert answer[-1] == "exit 1"
        assert [line.split(" has no image")[0] for line in answer[:-1]] == ["acme/erp", "acme/web"]
        assert world.on("c", "cat /tmp/alarm").splitlines() == answer[:-1]
        world.on("c", f'sed -i \'s/"changed": .*/"changed": "2020-01-01T00:00:00Z",/\' {STORE}/web/state.json')
        world.on("c", "! systemctl start resilient-vm-age.service")
        assert "acme/web has no image" in world.on("c", "journalctl -u resilient-vm-age.service -o cat")
    finally:
        world.on("c", "rm -f /tmp/alarm /usr/local/bin/alarm; systemctl reset-failed")
        world.play("site")


@pytest.mark.usefixtures("story")
def test_a_machine_with_another_host_key_than_the_pinned_one_is_not_talked_to_until_site_pins_it(world: World) -> None:
    """The other key is C's own here: as if B had been rebuilt, or somebody else answered for it."""
    other = world.on("c", "cut -d' ' -f1,2 /etc/ssh/ssh_host_ed25519_key.pub")
    pinned = f"b,{ADDRESS['b']}"
    hosts = f"{STORE}/.ssh/known_hosts"
    world.on("c", f"sed -i '/^{pinned} /d' {hosts}; echo '{pinned} {other}' >> {hosts}")
    answer = as_storage(world, "b", command="id")
    assert "Host key verification failed" in answer
    assert REFUSED not in answer
    assert world.play("site").changed == 1
    assert REFUSED in as_storage(world, "b", command="id")


def test_a_schedule_starts_every_vm_at_its_own_minute(world: World, tmp_path: Path) -> None:
    """C stands in for a control node, since this one may have no systemd. It serves two customers."""
    play = {
        "name": "Schedule",
        "hosts": "c",
        "gather_facts": False,
        "roles": ["edgecloud.resilient_vm.control_schedule"],
        "vars": {
            "control_schedule_folder": "/tmp",
            "control_schedule_inventories": ["/tmp/one customer", "/tmp/more"],
            "control_schedule_ansible_playbook": "/usr/bin/echo",
            "control_schedule_user": "root",
        },
    }
    (tmp_path / "play.yml").write_text(json.dumps([play]))

    def run(*options: str, **variables: object) -> Played:
        return world.play_file(tmp_path / "play.yml", *options, "-e", json.dumps(variables))

    def timers() -> list[str]:
        return world.on("c", "ls /etc/systemd/system/timers.target.wants | grep resilient-vm-daily || true").split()

    before = tree(world, "c")
    assert run("--check").changed > 0
    assert tree(world, "c") == before
    run()
    assert run().changed == 0
    starts = world.on("c", "systemctl show -P NextElapseUSecRealtime 'resilient-vm-daily-acme@*.timer'").split("\n")
    assert len({start for start in starts if start}) == 2, starts
    world.on("c", "systemctl start resilient-vm-daily-acme@erp.service")
    started = world.on("c", "journalctl -u resilient-vm-daily-acme@erp.service -o cat")
    assert "-i /tmp/one customer -i /tmp/more edgecloud.resilient_vm.daily --limit erp" in started
    other = {"control_schedule_name": "zeta", "control_schedule_inventories": ["/tmp/zeta"]}
    run(**other)
    assert run().changed == 0, "another customer's schedule changed this one"
    run(control_schedule_vms=["web"])
    assert timers() == [f"resilient-vm-daily-{vm}.timer" for vm in ("acme@web", "zeta@erp", "zeta@web")]
    run(control_schedule_vms=[])
    run(**other, control_schedule_vms=[])
    assert timers() == []


def test_a_schedule_is_made_of_what_the_playbook_itself_was_run_with(world: World) -> None:
    """On a control node that no inventory names, as an owner runs it."""
    shown = world.play("schedule", "--check", "--diff", "-e", json.dumps({"ansible_become": False})).output
    assert f'-i "{ROOT}/tests/lab/inventory" edgecloud.resilient_vm.daily --limit %i' in shown


@pytest.mark.usefixtures("story")
def test_unprotect_wants_the_vm_to_be_named(world: World) -> None:
    before = trees(world)
    assert "--limit erp" in world.play("unprotect", expect=1).output
    assert trees(world) == before


@pytest.mark.usefixtures("story")
def test_unprotect_forgets_one_vm_and_site_protects_it_again(world: World) -> None:
    before = trees(world)
    checked = world.play("unprotect", "--check", "--limit", "erp")
    assert checked.changed > 0
    assert trees(world) == before
    assert world.play("unprotect", "--limit", "erp").changed > 0
    for host in HOSTS:
        left = tree(world, host)
        assert "acme/erp" not in left
        assert "acme.erp" not in left
        assert "acme/web" in left
        assert "forced acme/erp" not in world.on(host, f"cat {STORE}/.ssh/authorized_keys")
    assert world.play("unprotect", "--limit", "erp").changed == 0
    assert world.on("a", "virsh domstate erp") == "shut off"
    assert world.on("b", "virsh list --all --name") == ""
    world.play("site")
    assert world.play("site").changed == 0
