# Copyright (c) 2026, edgecloud.resilient_vm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel, initramfs and bootable disks of the guests: built from Debian packages, kept in the cache."""

from __future__ import annotations

import lzma
import os
import re
import shutil
import time
from pathlib import Path

from .base import cache_lock, recipe_hash
from .config import Lab, LabError
from .cpio import Archive
from .machine import in_machine, run_in
from .shell import log, run

__all__ = ["CMDLINE", "MIB", "UEFI_DATA_START", "boot_files", "data_disk", "ensure_kit", "give_kernel", "system_disk"]

SOURCES = Path(__file__).resolve().parents[1] / "guest"
# One release for all guests, whatever the box and the machines run: a guest must not differ between boxes.
RELEASE = "bookworm"
PACKAGES = (
    *("linux-image-cloud-amd64", "busybox-static", "qemu-guest-agent"),
    *("extlinux", "syslinux-common", "systemd-boot-efi"),
)
MODULES = ("virtio_pci", "virtio_blk", "virtio_console", "virtio_net", "button", "evdev")
# Busybox answers to every one of these names.
APPLETS = (
    *("sh", "ash", "awk", "basename", "blockdev", "cat", "cmp", "cp", "cttyhack", "cut", "date", "dd", "df", "dmesg"),
    *("du", "echo", "env", "expr", "false", "find", "free", "grep", "gzip", "head", "hexdump", "hostname", "httpd"),
    *("id", "insmod", "ip", "kill", "ln", "ls", "lsmod", "md5sum", "mkdir", "mknod", "mount", "mv", "nc", "od"),
    *("ping", "poweroff", "printf", "ps", "pwd", "readlink", "reboot", "rm", "rmdir", "sed", "seq", "setsid"),
    *("sha256sum", "sleep", "sort", "stat", "stty", "sync", "tail", "tee", "test", "touch", "tr", "true", "umount"),
    *("uname", "uniq", "usleep", "vi", "wc", "which", "xargs", "yes"),
)
CMDLINE = "console=ttyS0 quiet panic=-1 mitigations=off"
# What the boot loader can read: fewer features, and blocks so large that the kernel is one extent.
EXT4_BLOCK_SIZE = "4096"
EXT4_FEATURES = "^64bit,^metadata_csum,^metadata_csum_seed,^orphan_file"
LOADER = "lib64/ld-linux-x86-64.so.2"
MIB = 1 << 20
# To be raised when the functions that build disks change what they make.
DISK_LAYOUT = 2
# Where the second partition of a UEFI disk begins; the first is the EFI system partition.
ESP_START = 1 * MIB
ESP_SIZE = 48 * MIB
UEFI_DATA_START = ESP_START + ESP_SIZE


def sources() -> dict[str, str]:
    """Return the guest's own files, name -> text."""
    return {path.name: path.read_text() for path in sorted(SOURCES.iterdir())}


def kit_path(lab: Lab) -> Path:
    """Return where the guests' kernel, initramfs and boot loaders lie."""
    disks = (CMDLINE, EXT4_BLOCK_SIZE, EXT4_FEATURES, ESP_SIZE, DISK_LAYOUT)
    return lab.cache / f"guest-{recipe_hash(RELEASE, PACKAGES, MODULES, APPLETS, disks, sources())}"


def boot_files(lab: Lab) -> Path:
    """Return the folder with ``vmlinuz`` and ``initrd``."""
    return kit_path(lab) / "boot"


def ensure_kit(lab: Lab) -> Path:
    """Build kernel, initramfs and boot loaders unless the cache has them."""
    kit = kit_path(lab)
    if kit.exists():
        return kit
    with cache_lock(lab, "guest"):
        if kit.exists():
            return kit
        started = time.monotonic()
        log("building the guests' kernel and initramfs (some seconds, once)")
        packages = unpacked_packages(lab)
        part = kit.with_name(kit.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        (part / "boot").mkdir(parents=True)
        (part / "disks").mkdir()
        shutil.copy2(newest_kernel(packages), part / "boot/vmlinuz")
        build_initrd(packages, part / "boot/initrd")
        os.rename(part, kit)
        log(f"guests' kernel and initramfs built in {time.monotonic() - started:.0f} s")
    return kit


def unpacked_packages(lab: Lab) -> Path:
    """Return a folder with the packages' files; nothing in there is installed or run as a system."""
    folder = lab.cache / f"guest-packages-{recipe_hash(RELEASE, PACKAGES)}"
    if not folder.exists():
        part = folder.with_name(folder.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        run(["mmdebstrap", "--quiet", "--variant=extract", f"--include={','.join(PACKAGES)}", RELEASE, part])
        os.rename(part, folder)
    return folder


def newest_kernel(packages: Path) -> Path:
    """Return the kernel image among the unpacked packages."""
    found = sorted(packages.glob("boot/vmlinuz-*"))
    if not found:
        raise LabError(f"no kernel among the guests' packages in {packages}")
    return found[-1]


def give_kernel(lab: Lab, machine: str) -> None:
    """Lay the guests' kernel and its modules on a machine: for programs there that boot a small machine themselves."""
    packages = unpacked_packages(lab)
    kernel = newest_kernel(packages).name
    release = kernel.removeprefix("vmlinuz-")
    script = 'tar -C "$1" -c "boot/$2" "lib/modules/$3" | (shift 3 && "$@")'
    unpack = [*in_machine(lab, machine), "tar", "-C", "/", "--keep-directory-symlink", "-x"]
    run(["bash", "-o", "pipefail", "-c", script, "kernel", str(packages), kernel, release, *unpack])
    run_in(lab, machine, ["depmod", release])


def build_initrd(packages: Path, target: Path) -> None:
    """Put busybox, the guest agent, the modules and the guest's own scripts into one initramfs."""
    archive = Archive()
    for folder in ("dev", "proc", "sys", "run", "tmp", "disk", "etc", "var"):
        archive.folder(folder)
    archive.link("var/run", "/run")
    # The kernel opens it for init before devtmpfs is mounted.
    archive.device("dev/console", 5, 1)
    archive.file("bin/busybox", (packages / "bin/busybox").read_bytes(), 0o755)
    for applet in APPLETS:
        archive.link(f"bin/{applet}", "busybox")
    add_agent(archive, packages)
    modules = packages / "lib/modules" / newest_kernel(packages).name.removeprefix("vmlinuz-")
    loaded: dict[str, bytes] = {}
    for name in MODULES:
        collect_module(modules, name, loaded)
    for name, content in loaded.items():
        archive.file(f"modules/{name}.ko", content, 0o644)
    archive.file("modules/order", "".join(f"{name}.ko\n" for name in loaded).encode(), 0o644)
    texts = sources()
    archive.file("init", texts["init"].encode(), 0o755)
    archive.file("bin/writer", texts["writer"].encode(), 0o755)
    archive.file("bin/writerctl", texts["writerctl"].encode(), 0o755)
    archive.file("sbin/shutdown", texts["shutdown"].encode(), 0o755)
    plain = target.with_suffix(".cpio")
    plain.write_bytes(archive.content())
    run(["zstd", "--quiet", "-9", "--force", "-o", target, plain])
    plain.unlink()


def add_agent(archive: Archive, packages: Path) -> None:
    """Add the guest agent with the libraries it names."""
    listed = run(["chroot", packages, f"/{LOADER}", "--list", "/usr/sbin/qemu-ga"]).stdout
    paths = {word.lstrip("/") for line in listed.splitlines() for word in line.split() if word.startswith("/")}
    for path in sorted({*paths, LOADER, "usr/sbin/qemu-ga"}):
        archive.file(path, inside(packages, path).read_bytes(), 0o755)


def inside(root: Path, path: str) -> Path:
    """Follow links as a process with that root would; an absolute one must not lead to the box's own file."""
    found = root / path
    while found.is_symlink():
        target = os.readlink(found)
        found = root / target.lstrip("/") if target.startswith("/") else found.parent / target
    return found


def collect_module(modules: Path, name: str, loaded: dict[str, bytes]) -> None:
    """Add a kernel module to those loaded, after the modules it says it depends on."""
    if name in loaded:
        return
    content = module_bytes(modules, name)
    found = re.search(rb"\0depends=([^\0]*)\0", content)
    for dependency in found.group(1).decode().split(",") if found else ():
        if dependency:
            collect_module(modules, dependency, loaded)
    loaded[name] = content


def module_bytes(modules: Path, name: str) -> bytes:
    """Return a kernel module, which newer kernels carry compressed."""
    names = {name, name.replace("_", "-")}
    found = [path for path in modules.rglob("*.ko*") if path.name.split(".")[0] in names]
    if not found:
        raise LabError(f"the guests' kernel has no module {name}")
    content = found[0].read_bytes()
    return lzma.decompress(content) if found[0].suffix == ".xz" else content


def system_disk(lab: Lab, firmware: str, size: int) -> Path:
    """Return a raw disk that boots by itself with the given firmware (``bios`` or ``uefi``)."""
    kit = ensure_kit(lab)
    image = kit / "disks" / f"{firmware}-{size // MIB}.raw"
    with cache_lock(lab, "guest"):
        if not image.exists():
            part = image.with_suffix(".part")
            part.unlink(missing_ok=True)
            (build_bios_disk if firmware == "bios" else build_uefi_disk)(lab, kit, part, size)
            os.rename(part, image)
    return image


def data_disk(lab: Lab, size: int) -> Path:
    """Return a raw disk with an ext4 that holds a counter at 0."""
    kit = ensure_kit(lab)
    image = kit / "disks" / f"data-{size // MIB}.raw"
    with cache_lock(lab, "guest"):
        if not image.exists():
            part = image.with_suffix(".part")
            make_ext4(part, size, {"counter": counter_record(0)})
            os.rename(part, image)
    return image


def counter_record(number: int) -> bytes:
    """Return the sector in which the guest's writer keeps its counter."""
    return f"{number:<511}\n".encode()


def make_ext4(image: Path, size: int, files: dict[str, bytes | Path]) -> None:
    """Make a file that is an ext4 from its first to its last byte."""
    tree = image.with_suffix(".tree")
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir()
    for name, content in files.items():
        target = tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Path):
            shutil.copyfile(content, target)
        else:
            target.write_bytes(content)
    image.unlink(missing_ok=True)
    run(["truncate", "-s", str(size), image])
    # The whole inode table now: the kernel would otherwise go on writing it for minutes after the first mount.
    options = ["-E", "lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0"]
    run(["mkfs.ext4", "-q", "-F", "-O", EXT4_FEATURES, *options, "-b", EXT4_BLOCK_SIZE, "-m", "0", "-d", tree, image])
    shutil.rmtree(tree)


def build_bios_disk(lab: Lab, kit: Path, image: Path, size: int) -> None:
    """Make one ext4 without partitions, whose first kilobyte holds the boot loader."""
    packages = unpacked_packages(lab)
    config = sources()["extlinux.conf"].replace("@CMDLINE@", CMDLINE)
    files: dict[str, bytes | Path] = {
        "boot/vmlinuz": kit / "boot/vmlinuz",
        "boot/initrd": kit / "boot/initrd",
        "boot/extlinux.conf": config.encode(),
        "counter": counter_record(0),
    }
    make_ext4(image, size, files)
    point = image.with_suffix(".mnt")
    point.mkdir(exist_ok=True)
    script = 'mount -o loop "$1" "$2" && shift && at=$1 && shift && "$@" --install "$at/boot"'
    libraries = str(packages / "lib/x86_64-linux-gnu")
    # The packages' own loader and libraries, because the box may have others.
    loader = [str(inside(packages, LOADER)), "--library-path", libraries]
    # In a mount namespace of its own, so that no mount or loop device can be left behind.
    mounted = ["unshare", "--mount", "sh", "-ec", script, "extlinux", str(image), str(point)]
    run([*mounted, *loader, str(packages / "usr/bin/extlinux")])
    point.rmdir()


def build_uefi_disk(lab: Lab, kit: Path, image: Path, size: int) -> None:
    """Make a GPT disk: an EFI system partition that boots through the removable path, and an ext4."""
    packages = unpacked_packages(lab)
    esp, data = image.with_suffix(".esp"), image.with_suffix(".data")
    run(["truncate", "-s", str(ESP_SIZE), esp])
    run(["mkfs.vfat", "-n", "ESP", esp])
    entry = f"title lab\nlinux /vmlinuz\ninitrd /initrd\noptions {CMDLINE}\n"
    loader_conf, entry_conf = image.with_suffix(".loader"), image.with_suffix(".entry")
    loader_conf.write_text("default lab\ntimeout 0\n")
    entry_conf.write_text(entry)
    run(["mmd", "-i", esp, "::/EFI", "::/EFI/BOOT", "::/loader", "::/loader/entries"])
    boot = packages / "usr/lib/systemd/boot/efi/systemd-bootx64.efi"
    for source, target in (
        (boot, "EFI/BOOT/BOOTX64.EFI"),
        (loader_conf, "loader/loader.conf"),
        (entry_conf, "loader/entries/lab.conf"),
        (kit / "boot/vmlinuz", "vmlinuz"),
        (kit / "boot/initrd", "initrd"),
    ):
        run(["mcopy", "-i", esp, source, f"::/{target}"])
    data_size = size - UEFI_DATA_START - MIB
    make_ext4(data, data_size, {"counter": counter_record(0)})
    run(["truncate", "-s", str(size), image])
    table = (
        "label: gpt\n"
        f"start={ESP_START // 512}, size={ESP_SIZE // 512}, type=U\n"
        f"start={UEFI_DATA_START // 512}, size={data_size // 512}, type=L\n"
    )
    run(["sfdisk", "--quiet", image], stdin=table)
    for part, start in ((esp, ESP_START), (data, UEFI_DATA_START)):
        run(["dd", f"if={part}", f"of={image}", "bs=1M", f"seek={start // MIB}", "conv=notrunc,sparse", "status=none"])
    for scrap in (esp, data, loader_conf, entry_conf):
        scrap.unlink()
