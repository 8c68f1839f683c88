"""System calls by name, where the C library has no function for them, and their numbers.

The numbers are the kernel's own, for the two processors that the sandbox knows. Only x86_64 was tried.
"""

import ctypes
import os
import platform
from collections.abc import Mapping

_X86_64 = (
    "open 2;ioctl 16;shmget 29;shmat 30;shmctl 31;socket 41;clone 56;fork 57;vfork 58;execve 59;kill 62;semget 64;"
    "semop 65;semctl 66;msgget 68;msgsnd 69;msgrcv 70;msgctl 71;chmod 90;fchmod 91;chown 92;fchown 93;lchown 94;"
    "ptrace 101;syslog 103;creat 85;setpgid 109;setsid 112;capset 126;rt_sigqueueinfo 129;utime 132;mknod 133;"
    "uselib 134;personality 135;ustat 136;sysfs 139;setpriority 141;sched_setparam 142;sched_setscheduler 144;"
    "vhangup 153;modify_ldt 154;pivot_root 155;_sysctl 156;adjtimex 159;chroot 161;acct 163;settimeofday 164;"
    "mount 165;umount2 166;swapon 167;swapoff 168;reboot 169;sethostname 170;setdomainname 171;iopl 172;ioperm 173;"
    "init_module 175;delete_module 176;quotactl 179;nfsservctl 180;setxattr 188;lsetxattr 189;fsetxattr 190;"
    "removexattr 197;lremovexattr 198;fremovexattr 199;tkill 200;sched_setaffinity 203;lookup_dcookie 212;"
    "semtimedop 220;clock_settime 227;tgkill 234;utimes 235;mbind 237;mq_open 240;mq_unlink 241;kexec_load 246;"
    "add_key 248;request_key 249;keyctl 250;ioprio_set 251;inotify_init 253;migrate_pages 256;mknodat 259;"
    "fchownat 260;openat 257;futimesat 261;fchmodat 268;unshare 272;move_pages 279;utimensat 280;inotify_init1 294;"
    "rt_tgsigqueueinfo 297;perf_event_open 298;fanotify_init 300;prlimit64 302;name_to_handle_at 303;"
    "open_by_handle_at 304;clock_adjtime 305;setns 308;process_vm_readv 310;process_vm_writev 311;kcmp 312;"
    "finit_module 313;sched_setattr 314;seccomp 317;kexec_file_load 320;bpf 321;execveat 322;userfaultfd 323"
)
_AARCH64 = (
    "setxattr 5;lsetxattr 6;fsetxattr 7;removexattr 14;lremovexattr 15;fremovexattr 16;lookup_dcookie 18;"
    "inotify_init1 26;ioctl 29;ioprio_set 30;mknodat 33;umount2 39;mount 40;pivot_root 41;nfsservctl 42;chroot 51;"
    "fchmod 52;fchmodat 53;fchownat 54;fchown 55;openat 56;vhangup 58;quotactl 60;utimensat 88;acct 89;capset 91;"
    "personality 92;unshare 97;kexec_load 104;init_module 105;delete_module 106;clock_settime 112;syslog 116;"
    "ptrace 117;sched_setparam 118;sched_setscheduler 119;sched_setaffinity 122;kill 129;tkill 130;tgkill 131;"
    "rt_sigqueueinfo 138;setpriority 140;reboot 142;setpgid 154;setsid 157;sethostname 161;setdomainname 162;"
    "settimeofday 170;adjtimex 171;mq_open 180;mq_unlink 181;msgget 186;msgctl 187;msgrcv 188;msgsnd 189;"
    "semget 190;semctl 191;semtimedop 192;semop 193;shmget 194;shmctl 195;shmat 196;socket 198;add_key 217;"
    "request_key 218;keyctl 219;clone 220;execve 221;swapon 224;swapoff 225;mbind 235;migrate_pages 238;"
    "move_pages 239;rt_tgsigqueueinfo 240;perf_event_open 241;prlimit64 261;fanotify_init 262;"
    "name_to_handle_at 264;open_by_handle_at 265;clock_adjtime 266;setns 268;process_vm_readv 270;"
    "process_vm_writev 271;kcmp 272;finit_module 273;sched_setattr 274;seccomp 277;bpf 280;execveat 281;"
    "userfaultfd 282;kexec_file_load 294"
)
# From 424 on every processor has the same numbers.
_COMMON = (
    "pidfd_send_signal 424;io_uring_setup 425;io_uring_enter 426;io_uring_register 427;open_tree 428;"
    "move_mount 429;fsopen 430;fsconfig 431;fsmount 432;fspick 433;pidfd_open 434;clone3 435;openat2 437;"
    "pidfd_getfd 438;process_madvise 440;mount_setattr 442;quotactl_fd 443;landlock_create_ruleset 444;"
    "landlock_add_rule 445;landlock_restrict_self 446;memfd_secret 447;process_mrelease 448;fchmodat2 452"
)
_TABLES = {"x86_64": _X86_64, "aarch64": _AARCH64}

# The identity of a processor's calling convention, as the kernel's audit subsystem numbers it.
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

_libc = ctypes.CDLL(None, use_errno=True)


def numbers() -> Mapping[str, int]:
    """Return the numbers of this processor's system calls; empty if it is not one that the sandbox knows."""
    table = _TABLES.get(platform.machine())
    pairs = f"{table};{_COMMON}".split(";") if table else []
    return {name: int(number) for name, _, number in (pair.partition(" ") for pair in pairs)}


def audit_arch() -> int:
    """Return how the kernel names this processor to a filter. Raises KeyError if the sandbox does not know it."""
    return _AUDIT_ARCH[platform.machine()]


def syscall(name: str, *arguments: object) -> int:
    """Make a system call. Raises OSError as the kernel says, and KeyError if this processor is not known."""
    number = numbers()[name]
    found = _libc.syscall(ctypes.c_long(number), *arguments)
    if found < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), name)
    return int(found)


def prctl(option: int, *arguments: int) -> int:
    """Have the kernel change something about this process: an option and up to four numbers. Raises OSError."""
    words = [ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:4]]
    found = _libc.prctl(ctypes.c_int(option), *words)
    if found < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), f"prctl {option}")
    return int(found)
