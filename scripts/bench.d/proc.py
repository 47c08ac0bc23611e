"""What /proc tells of processes: CPU time, children, connections."""

import os

TICKS = os.sysconf("SC_CLK_TCK")
# The parent of the kernel's threads.
KERNEL = "2"


def stat(pid: int | str) -> list[str]:
    """The fields of /proc/PID/stat behind the name, which may hold spaces; empty when the process is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def cpu(pid: int | str) -> float:
    """Seconds of CPU that the process has used, and those of its children that have ended."""
    fields = stat(pid)
    return sum(map(int, fields[11:15])) / TICKS if fields else 0.0


def family(root: int) -> list[str]:
    """A process and all that descend from it; and the kernel's threads, which work for whoever keeps the machine busy."""
    parents = {pid: stat(pid) for pid in os.listdir("/proc") if pid.isdigit()}
    found, new = {str(root), KERNEL}, {str(root), KERNEL}
    while new:
        new = {pid for pid, fields in parents.items() if fields and fields[1] in new} - found
        found |= new
    return sorted(found)


def machine() -> float:
    """Seconds of CPU that the whole machine has used, with what its host took away."""
    with open("/proc/stat") as file:
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICKS


def connections(pid: int, port: int) -> int:
    """Open connections of the process to this port of the machine itself."""
    sockets = set()
    for handle in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{handle}")
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            sockets.add(target[8:-1])
    with open("/proc/net/tcp") as file:
        rows = [line.split() for line in file.readlines()[1:]]
    # Remote address, state (01 = established) and inode.
    return sum(row[2].endswith(f":{port:04X}") and row[3] == "01" and row[9] in sockets for row in rows)
