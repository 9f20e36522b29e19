"""A seccomp filter: system calls that no agent needs and kernels regret. bubblewrap has none of its own; the worker
image puts it on top of Docker's.

Docker's default profile allows what is known; this one refuses what is named, so it is the weaker of the two. Refused
calls fail with EPERM. Calls of another architecture (32-bit on 64-bit) fail too, since their numbers mean other things.
"""

import platform
import struct
from collections.abc import Mapping

_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_X32 = 0x40000000
_FIRST_ARGUMENT = 16
_VSOCK = 40  # reaches the machine below a virtual machine, whatever the network namespace says
_SOCKET = {"x86_64": 41, "aarch64": 198}

# Calls with the same number everywhere, because they are younger than the architectures.
_YOUNG = {
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
}
_NUMBERS: Mapping[str, tuple[int, Mapping[str, int]]] = {
    "x86_64": (
        0xC000003E,
        {
            **_YOUNG,
            "ptrace": 101,
            "pivot_root": 155,
            "chroot": 161,
            "acct": 163,
            "mount": 165,
            "umount2": 166,
            "swapon": 167,
            "swapoff": 168,
            "reboot": 169,
            "iopl": 172,
            "ioperm": 173,
            "init_module": 175,
            "delete_module": 176,
            "quotactl": 179,
            "kexec_load": 246,
            "add_key": 248,
            "request_key": 249,
            "keyctl": 250,
            "unshare": 272,
            "perf_event_open": 298,
            "open_by_handle_at": 304,
            "setns": 308,
            "process_vm_readv": 310,
            "process_vm_writev": 311,
            "finit_module": 313,
            "kexec_file_load": 320,
            "bpf": 321,
            "userfaultfd": 323,
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            **_YOUNG,
            "umount2": 39,
            "mount": 40,
            "pivot_root": 41,
            "chroot": 51,
            "quotactl": 60,
            "acct": 89,
            "unshare": 97,
            "kexec_load": 104,
            "init_module": 105,
            "delete_module": 106,
            "ptrace": 117,
            "reboot": 142,
            "add_key": 217,
            "request_key": 218,
            "keyctl": 219,
            "swapon": 224,
            "swapoff": 225,
            "perf_event_open": 241,
            "open_by_handle_at": 265,
            "setns": 268,
            "process_vm_readv": 270,
            "process_vm_writev": 271,
            "finit_module": 273,
            "bpf": 280,
            "userfaultfd": 282,
            "kexec_file_load": 294,
        },
    ),
}


def has_filter(machine: str = "") -> bool:
    """Say whether this machine's architecture, or the one named, has a filter."""
    return (machine or platform.machine()) in _NUMBERS


def program(machine: str = "") -> bytes:
    """Return the filter as the kernel reads it; one that allows everything on an architecture without a list."""
    machine = machine or platform.machine()
    if not has_filter(machine):
        return _instruction(_RETURN, _ALLOW)
    architecture, numbers = _NUMBERS[machine]
    calls = sorted(numbers.values())
    return b"".join(
        (
            _instruction(_LOAD, 4),
            _instruction(_EQUAL, architecture, hit=1),
            _instruction(_RETURN, _REFUSE),
            _instruction(_LOAD, 0),
            _instruction(_AT_LEAST, _X32, hit=len(calls) + 5),
            _instruction(_EQUAL, _SOCKET[machine], miss=3),
            _instruction(_LOAD, _FIRST_ARGUMENT),
            _instruction(_EQUAL, _VSOCK, hit=len(calls) + 2),
            _instruction(_RETURN, _ALLOW),
            *(_instruction(_EQUAL, number, hit=len(calls) - n) for n, number in enumerate(calls)),
            _instruction(_RETURN, _ALLOW),
            _instruction(_RETURN, _REFUSE),
        )
    )


def _instruction(code: int, value: int, *, hit: int = 0, miss: int = 0) -> bytes:
    """One BPF instruction; `hit` and `miss`: how many to jump over when the comparison holds, or does not."""
    return struct.pack("=HBBI", code, hit, miss, value)
