#!/usr/bin/python
# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Power a host off from another machine."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_fence
short_description: Power a host off from another machine
version_added: 0.1.0
description:
  - Runs a fence agent (any program with the standard interface, see O(agent)) that powers another host off, and waits
    until its C(status) says that it is off. Orders nothing when that says so already, or can't be had. Never reboots.
  - Fails when the host is not off for sure in time; an agent that hangs is killed, with all that it began.
  - An agent may be set up for the wrong machine; look at the host afterwards (M(edgecloud.resilient_vm.vm_look)).
author:
  - edgecloud.resilient_vm contributors (@edgecloud)
attributes:
  check_mode:
    description: Asks for the status only.
    support: full
  diff_mode:
    description: Has nothing to show but the power.
    support: none
options:
  state:
    description: V(powered_off) to power it off; V(asked) to see only whether the agent can tell its status.
    type: str
    choices: [powered_off, asked]
    default: powered_off
  agent:
    description:
      - Name or absolute path of the agent. It is given its options, C(action) among them, as C(name=value) lines on its
        standard input and nothing on its command line, ends with 0 for success, and with 2 when the status is off.
    type: str
    required: true
  options:
    description: Its options.
    type: dict
    default: {}
  secrets:
    description: Options beside these that nobody shall read.
    type: dict
    default: {}
  seconds:
    description: How long all of it may take, in seconds.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Power a off from the backup storage
  edgecloud.resilient_vm.host_fence:
    agent: fence_ipmilan
    options:
      ip: 192.0.2.111
      username: fence
      lanplus: "1"
    secrets:
      password: "{{ vault_fence_password }}"
  delegate_to: c
"""

RETURN = r"""
power:
  description: V(off), V(on), or V(failed) when the agent could not say.
  returned: always, unless it could not be begun
  type: str
  sample: "off"
told:
  description: What the agent said, as the end of a sentence.
  returned: always, unless it could not be begun
  type: str
  sample: fence_ipmilan powered it off in 4.1 s
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.edgecloud.resilient_vm.plugins.module_utils import _fence
from ansible_collections.edgecloud.resilient_vm.plugins.module_utils._errors import ResilientVmError, fail


def main() -> None:
    module = AnsibleModule(
        {
            "state": {"type": "str", "choices": ["powered_off", "asked"], "default": "powered_off"},
            "agent": {"type": "str", "required": True},
            "options": {"type": "dict", "default": {}},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "seconds": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    given = module.params
    texts = {name: {key: str(value) for key, value in given[name].items()} for name in ("options", "secrets")}
    try:
        agent = _fence.Agent(given["agent"], texts["options"], texts["secrets"], given["seconds"])
        asked = given["state"] == "asked" or module.check_mode
        outcome = agent.ask() if asked else agent.power_off()
    except (ResilientVmError, OSError) as error:
        fail(module, error)
    changed = outcome.ordered if not module.check_mode else outcome.power == _fence.ON and given["state"] != "asked"
    done = outcome.power == _fence.OFF or (asked and outcome.power == _fence.ON)
    result = {"changed": changed, "power": outcome.power, "told": outcome.told}
    if not done:
        module.fail_json(msg=outcome.told, **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
