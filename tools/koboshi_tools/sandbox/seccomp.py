"""The system calls that no tool needs, denied by a seccomp filter. Nothing takes it back, and programs inherit it.

A denied call fails with "operation not permitted"; one that is newer than this list is unknown to the sandboxed
process. A call through another processor's convention ends the process.

Covered: sockets of every kind, tracing and reading other processes, kernel modules, mounts, new namespaces, io_uring,
keys, shared memory of System V, other processes' limits and priorities, files that run with their owner's rights,
leaving the process group (so that one signal ends all). Where no program may be started, fork and exec too.
`only_landlock` says that no mount namespace and no process namespace hold the process: then the mode, owner, times and
attributes of files and the watching of folders are denied as well, since Landlock does not hold them, and signals where
Landlock is too old to.
"""

import ctypes
import errno
import os
from collections.abc import Iterator, Mapping

from .syscalls import audit_arch, numbers, prctl

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_KILL, _ERRNO, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16
_SET_SECCOMP, _MODE_FILTER = 22, 2

# Calls numbered beyond the last one that was looked at when this list was made.
_FIRST_UNKNOWN = 463
# Calls of the x32 convention carry this bit.
_X32 = 0x40000000
_NEW_NAMESPACES = 0x7E020000
_CLONE_THREAD = 0x00010000
_OWNERS_RIGHTS = 0o6000
_MAKES_A_FILE = os.O_CREAT | (os.O_TMPFILE & ~os.O_DIRECTORY)
_TERMINAL_INPUT = (0x5412, 0x541C)

_NEVER = (
    "socket ptrace process_vm_readv process_vm_writev kcmp pidfd_getfd process_madvise process_mrelease "
    "io_uring_setup io_uring_enter io_uring_register bpf perf_event_open userfaultfd memfd_secret "
    "keyctl add_key request_key mount umount2 pivot_root chroot unshare setns open_tree move_mount fsopen fsconfig "
    "fsmount fspick mount_setattr init_module finit_module delete_module kexec_load kexec_file_load reboot "
    "swapon swapoff acct quotactl quotactl_fd nfsservctl setsid setpgid capset syslog clock_settime clock_adjtime "
    "settimeofday adjtimex sethostname setdomainname iopl ioperm modify_ldt vhangup uselib ustat sysfs _sysctl "
    "lookup_dcookie name_to_handle_at open_by_handle_at setpriority sched_setparam sched_setscheduler "
    "sched_setattr sched_setaffinity ioprio_set migrate_pages move_pages mbind shmget shmat shmctl semget semop "
    "semctl semtimedop msgget msgsnd msgrcv msgctl mq_open mq_unlink"
).split()
_FILES = (
    "chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat setxattr lsetxattr fsetxattr removexattr "
    "lremovexattr fremovexattr utime utimes futimesat inotify_init inotify_init1 fanotify_init"
).split()
_SIGNALS = "kill tkill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_send_signal".split()
_PROGRAMS = "fork vfork execve execveat".split()

Instruction = tuple[int, int, int, int]


class _Filter(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("filter", ctypes.POINTER(_Filter)))


def install(*, programs: bool, only_landlock: bool, signals: bool) -> None:
    """Install the filter on this process, which must already be unable to gain privileges. Raises OSError.

    Args:
        programs: whether other programs may be started.
        only_landlock: whether nothing but Landlock holds the process.
        signals: whether signals may be sent at all.
    """
    instructions = list(_program(programs=programs, only_landlock=only_landlock, signals=signals))
    filters = (_Filter * len(instructions))(*(_Filter(*instruction) for instruction in instructions))
    program = _Program(len(instructions), filters)
    prctl(_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(program))


def _program(*, programs: bool, only_landlock: bool, signals: bool) -> Iterator[Instruction]:
    known = numbers()
    denied = [*_NEVER, *(_FILES if only_landlock else ()), *(() if signals else _SIGNALS)]
    denied += [] if programs else _PROGRAMS
    yield (_LOAD, 0, 0, _ARCH)
    yield (_EQUAL, 1, 0, audit_arch())
    yield (_RETURN, 0, 0, _KILL)
    yield (_LOAD, 0, 0, _NUMBER)
    yield from _unless_below(_X32, errno.EPERM)
    yield from _unless_below(_FIRST_UNKNOWN, errno.ENOSYS)
    # Its flags lie in memory, where a filter cannot look; the C library then takes the older call.
    yield from _deny(known["clone3"], errno.ENOSYS)
    for name in denied:
        if name in known:
            yield from _deny(known[name], errno.EPERM)
    yield from _clone(known["clone"], programs=programs)
    yield from _deny_if(known["prlimit64"], 0, [(_EQUAL, 1, 0, 0)])
    yield from _deny_if(known["ioctl"], 1, [(_EQUAL, 1, 0, _TERMINAL_INPUT[0]), (_EQUAL, 0, 1, _TERMINAL_INPUT[1])])
    yield from _marked_files(known)
    if only_landlock:
        # Without a path it sets the times of an open file, as touch does after making one. A path is 64 bits long.
        high = (_LOAD, 0, 0, _ARGUMENTS + 8 * 1 + 4)
        yield from _deny_if(known["utimensat"], 1, [(_EQUAL, 0, 2, 0), high, (_EQUAL, 1, 0, 0)])
    yield (_RETURN, 0, 0, _ALLOW)


def _marked_files(known: Mapping[str, int]) -> Iterator[Instruction]:
    """Deny making a file that runs with the rights of its owner or group: it would outlive the sandbox."""
    marked = (_ANY_BIT, 0, 1, _OWNERS_RIGHTS)
    for name, argument in (("chmod", 1), ("fchmod", 1), ("fchmodat", 2), ("fchmodat2", 2), ("creat", 1)):
        if name in known:
            yield from _deny_if(known[name], argument, [marked])
    for name, argument in (("open", 1), ("openat", 2)):
        if name in known:
            # The mode follows the flags, and means something only if a file is made.
            mode = (_LOAD, 0, 0, _ARGUMENTS + 8 * (argument + 1))
            yield from _deny_if(known[name], argument, [(_ANY_BIT, 0, 3, _MAKES_A_FILE), mode, marked])
    # Its mode lies in memory; who uses it knows how to do without.
    yield from _deny(known["openat2"], errno.ENOSYS)


def _unless_below(limit: int, error: int) -> Iterator[Instruction]:
    yield (_AT_LEAST, 0, 1, limit)
    yield (_RETURN, 0, 0, _ERRNO | error)


def _deny(number: int, error: int) -> Iterator[Instruction]:
    yield (_EQUAL, 0, 1, number)
    yield (_RETURN, 0, 0, _ERRNO | error)


def _deny_if(number: int, argument: int, test: list[Instruction]) -> Iterator[Instruction]:
    """Deny a call if the tests of an argument's low word end at the denial rather than one instruction past it."""
    body = [(_LOAD, 0, 0, _ARGUMENTS + 8 * argument), *test, (_RETURN, 0, 0, _ERRNO | errno.EPERM)]
    yield (_EQUAL, 0, len(body) + 1, number)
    yield from body
    yield (_LOAD, 0, 0, _NUMBER)


def _clone(number: int, *, programs: bool) -> Iterator[Instruction]:
    if programs:
        yield from _deny_if(number, 0, [(_ANY_BIT, 0, 1, _NEW_NAMESPACES)])
    else:
        # Only a thread may be begun, and a thread cannot have a namespace of its own.
        yield from _deny_if(number, 0, [(_ANY_BIT, 1, 0, _CLONE_THREAD)])
