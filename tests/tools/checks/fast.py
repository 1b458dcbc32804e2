# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stages of the fast part: what needs no machine but this one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from . import artifact, rules, tree
from .environments import Environment, ensure_packages
from .job import Job, StageFailed, totals_of
from .places import COLLECTION, DEV, ROOT, TREE
from .pythons import CORES, Carrier, Python, carriers, newest_core
from .runner import Stage
from .sanity import sanity

__all__ = ["Fast", "packages", "pytest", "set_up"]

# What runs on managed machines is promised for these.
TARGET_MINORS = range(9, 14)
_COPY = "the copy under the collection's full name"
_PACKAGES = "packages of this machine"


def set_up(environment: Environment) -> Stage:
    """The stage that builds an environment."""
    return Stage(f"set-up of {environment.folder.name}", environment.build, (_PACKAGES,), counted=False)


def packages(python: Python) -> Stage:
    """The stage that comes before all others."""
    return Stage(_PACKAGES, partial(ensure_packages, python=python), counted=False)


def pytest(
    job: Job, environment: Environment, arguments: Sequence[str | Path], name: str, only: str = "not soak"
) -> None:
    """Run pytest and count its cases."""
    junit = DEV / "junit" / f"{name}.xml"
    junit.unlink(missing_ok=True)
    argv: list[str | Path] = [environment.bin / "python", "-m", "pytest", "-m", only, f"--junitxml={junit}"]
    # Several runs may go on side by side.
    argv += ["-o", f"cache_dir={DEV / 'pytest' / name}", *arguments]
    try:
        code = job.run(argv, path=[environment.bin], check=False)
    finally:  # also at the time limit
        if junit.exists():
            job.totals = totals_of(junit)
            if job.totals.skipped:
                job.notes.append(f"{job.totals.skipped} skipped; {job.log} says why")
    if code != 0 or not job.totals or not job.totals.passed:
        raise StageFailed(f"pytest ended with exit code {code}")


def _apply(job: Job, rule: Callable[[Iterable[str]], Iterator[str]]) -> None:
    found = list(rule(tree.files()))
    for sentence in found:
        job.say(sentence)
    if found:
        raise StageFailed(f"{len(found)} found")


def _shell_scripts() -> list[str]:
    def is_shell(name: str) -> bool:
        path = ROOT / name
        if path.is_symlink() or not path.is_file():
            return False
        first = path.open("rb").readline()
        return first.startswith(b"#!") and first.rstrip().split(b"/")[-1].split()[0] in (b"sh", b"bash")

    return [name for name in tree.files() if is_shell(name)]


def _galaxy(job: Job, environment: Environment) -> None:
    """Build the artifact, compare its contents, and install it as a user would, without Galaxy."""
    folder = DEV / "artifact"
    shutil.rmtree(folder, ignore_errors=True)
    galaxy: list[str | Path] = [environment.bin / "ansible-galaxy", "collection"]
    job.run([*galaxy, "build", "--output-path", folder], cwd=COLLECTION, path=[environment.bin])
    (built,) = folder.glob("*.tar.gz")
    found = list(artifact.problems(artifact.contents(built), tree.files()))
    for sentence in found:
        job.say(sentence)
    if found:
        raise StageFailed(f"{len(found)} found")
    job.run([*galaxy, "install", "--offline", built, "-p", folder / "installed"], path=[environment.bin])


def _syntax(job: Job, environment: Environment) -> None:
    playbooks = sorted((ROOT / "playbooks").glob("*.yml"))
    if not playbooks:
        raise StageFailed("there is no playbook in playbooks/")
    job.run([ROOT / "tests/tools/dev-link"])
    # In the checkout and with its ansible.cfg, as a user would.
    argv: list[str | Path] = [
        environment.bin / "ansible-playbook",
        "--syntax-check",
        "-i",
        "inventory.example",
        *playbooks,
    ]
    job.run(argv, path=[environment.bin])
    if "[WARNING]" in job.output():
        raise StageFailed("warnings; see its output")


@dataclass
class Fast:
    """The fast part on the Pythons of this machine."""

    main: Carrier
    pythons: Sequence[Python]
    pytest_arguments: Sequence[str]
    # Without what takes as long again and finds little that the rest does not: for every change, by itself.
    quick: bool = False

    @classmethod
    def on(cls, pythons: Sequence[Python], mine: Python, pytest_arguments: Sequence[str], quick: bool = False) -> Fast:
        core = newest_core(mine.minor)
        if not core:
            raise StageFailed(f"no ansible-core is known that runs on Python {mine.version}; use 3.11 to 3.14")
        return cls(Carrier(core, mine), pythons, pytest_arguments, quick)

    @property
    def core(self) -> Environment:
        return self._environment(self.main, "requirements-sanity.txt")

    @property
    def lint(self) -> Environment:
        return Environment("lint", self.main.python, self.main.core, ("requirements-lint.txt",))

    @property
    def targets(self) -> list[Python]:
        """What is promised, oldest first; in the quick part the two ends."""
        found = sorted(
            (python for python in self.pythons if python.minor in TARGET_MINORS), key=lambda python: python.minor
        )
        return [*found[:1], *found[1:][-1:]] if self.quick else found

    def _environment(self, carrier: Carrier, *more: str) -> Environment:
        name = f"core-{carrier.core}-python-{carrier.python.version}"
        return Environment(name, carrier.python, carrier.core, ("requirements-units.txt", *more))

    def _others(self) -> list[Carrier]:
        """The oldest and the newest ansible-core, where they are not the main one; none in the quick part."""
        if self.quick:
            return []
        found = carriers(self.pythons)
        return [carrier for carrier in found if carrier and str(carrier) != str(self.main)]

    def not_run(self) -> list[str]:
        """A sentence for each thing that this machine's Pythons cannot carry, or that the quick part leaves out."""
        if self.quick:
            return ["in ./test only: units on other versions of ansible-core, sanity on all Pythons, pylint of tests"]
        has = {python.minor for python in self.targets}
        lacks = [f"3.{minor}" for minor in TARGET_MINORS if minor not in has]
        sentences = []
        if lacks:
            sentences.append(f"sanity import and compile on Python {', '.join(lacks)}: not on this machine")
        run = {carrier.core for carrier in (self.main, *self._others())}
        for core, minors in (CORES[0], CORES[-1]):
            if core not in run:
                wanted = f"Python 3.{minors[0]} to 3.{minors[-1]}"
                sentences.append(f"units on ansible-core {core}: no {wanted} on this machine")
        return sentences

    def _on_core(self, carrier: Carrier, environment: Environment) -> Iterator[Stage]:
        needs = (set_up(environment).name,)
        name = environment.name
        arguments = ["tests/unit", *self.pytest_arguments]
        units = partial(pytest, environment=environment, arguments=arguments, name=f"units-{name}")
        yield Stage(f"units, {carrier}", units, needs)
        yield Stage(f"syntax, {carrier}", partial(_syntax, environment=environment), needs)

    def _mypy(self, job: Job, arguments: Sequence[str], path: Path | str, cwd: Path) -> None:
        argv: list[str | Path] = [self.lint.bin / "mypy", "--config-file", COLLECTION / "pyproject.toml"]
        argv += ["--cache-dir", DEV / "mypy", *arguments]
        job.run(argv, cwd=cwd, env={"MYPYPATH": str(path)})

    def _mypy_beside_mover(self, job: Job) -> None:
        """What uses the mover under the name that it has on a machine."""
        package = DEV / "mover/resilient_vm_mover"
        package.parent.mkdir(exist_ok=True)
        package.unlink(missing_ok=True)
        package.symlink_to(COLLECTION / "plugins/module_utils")
        arguments = ["--python-version", "3.11", "--follow-imports", "silent", "tests/bench/remote/ours.py"]
        self._mypy(job, arguments, package.parent, COLLECTION)

    def _shellcheck(self, job: Job) -> None:
        # Not following what is sourced: it lies inside a guest.
        job.run([self.core.bin / "shellcheck", "--exclude=SC1090,SC1091", *_shell_scripts()])

    def _lint_stages(self) -> Iterator[Stage]:
        lint = self.lint.bin
        needs = (set_up(self.lint).name, _COPY)
        env = {"ANSIBLE_COLLECTIONS_PATH": str(TREE)}

        def program(name: str, *argv: str) -> Stage:
            def work(job: Job) -> None:
                job.run([lint / argv[0], *argv[1:]], cwd=COLLECTION, path=[lint], env=env)

            return Stage(name, work, needs)

        yield program("ansible-lint", "ansible-lint", "--nocolor")
        collection = str(COLLECTION.relative_to(TREE))
        yield Stage("mypy, plugins", lambda job: self._mypy(job, [f"{collection}/plugins"], TREE, TREE), needs)
        for folder in ("lab", "tools"):
            arguments = ["--python-version", "3.11", f"tests/{folder}"]
            work = partial(self._mypy, arguments=arguments, path=COLLECTION / "tests" / folder, cwd=COLLECTION)
            yield Stage(f"mypy, tests/{folder}", work, needs)
        # Without what runs on the lab's machines, where their packages are.
        arguments = ["--python-version", "3.11", "-p", "bench"]
        # It asks a module of ours for its defaults.
        paths = f"{COLLECTION / 'tests'}:{TREE}"
        work = partial(self._mypy, arguments=arguments, path=paths, cwd=COLLECTION)
        yield Stage("mypy, tests/bench", work, needs)
        yield Stage("mypy, tests/bench/remote/ours.py", self._mypy_beside_mover, needs)
        yield program("ruff check", "ruff", "check", "--no-cache", ".")
        yield program("ruff format", "ruff", "format", "--no-cache", "--check", "--diff", ".")
        docs = ("lint-collection-docs", "--plugin-docs", "--validate-collection-refs", "self", ".")
        yield program("documentation", "antsibull-docs", *docs)
        yield program("changelog fragments", "antsibull-changelog", "lint")
        yield program("changelog", "antsibull-changelog", "lint-changelog-yaml", "changelogs/changelog.yaml")

    def stages(self) -> list[Stage]:
        """All of them, in the order in which they are best started."""
        core = set_up(self.core)
        others = [(carrier, self._environment(carrier)) for carrier in self._others()]
        run_sanity = partial(sanity, environment=self.core, targets=self.targets, quick=self.quick)
        needs_core = (core.name, _COPY)
        return [
            packages(self.main.python),
            Stage(_COPY, lambda _job: tree.synchronize(), (_PACKAGES,), counted=False),
            core,
            set_up(self.lint),
            Stage("sanity", run_sanity, needs_core),
            *self._lint_stages(),
            *(set_up(environment) for _carrier, environment in others),
            *self._on_core(self.main, self.core),
            *(stage for carrier, environment in others for stage in self._on_core(carrier, environment)),
            Stage("artifact", partial(_galaxy, environment=self.core), needs_core),
            Stage("shellcheck", self._shellcheck, needs_core),
            Stage("file sizes", partial(_apply, rule=rules.long_files), (_COPY,)),
            Stage("licence headers", partial(_apply, rule=rules.headers), (_COPY,)),
            Stage("hosts and paths", partial(_apply, rule=rules.forbidden_words), (_COPY,)),
        ]
