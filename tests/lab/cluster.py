"""A real Slurm on this machine: a controller and nodes, each a slurmd with its own port, in a folder of their own."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol")
PATIENCE = 30.0  # seconds
# A requeued job is held back until its credentials have expired: after 120 s by default, 5 at least. A silent node is
# given up after 300.
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
SlurmdTimeout=4
MessageTimeout=5
KillWait=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=low Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=60
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=2 PreemptMode=OFF
"""


class NoClusterError(Exception):
    """There is no Slurm here, and why."""


@dataclass
class Cluster:
    """A cluster that runs."""

    folder: Path
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def start(self, name: str, *command: str) -> None:
        """Start a daemon, whose children can be told from others by its name."""
        log = (self.folder / f"{name}.out").open("ab")
        environment = {**os.environ, **self.environment, "TEST_DAEMON": name}
        self.daemons[name] = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
        )

    def ask(self, *command: str) -> str:
        """Return what one of Slurm's commands answers."""
        environment = {**os.environ, **self.environment}
        answer = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE)
        return answer.stdout

    def kill(self, node: str) -> None:
        """Let a node die: its slurmd, and all that runs on it, at once."""
        ours = f"SLURM_CONF={self.environment['SLURM_CONF']}".encode()
        marks = {f"TEST_DAEMON={node}".encode(), f"SLURMD_NODENAME={node}".encode()}
        while victims := [pid for pid, environment in environments() if ours in environment and marks & environment]:
            for victim in victims:
                with suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
            if node in self.daemons:
                self.daemons.pop(node).wait()

    def stop(self) -> None:
        """End all daemons and what they started."""
        for name in ["slurmctld", *(name for name in self.daemons if name not in ("slurmctld", "munged")), "munged"]:
            self.kill(name)


def environments() -> Iterator[tuple[int, set[bytes]]]:
    """Yield living processes with their environments."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is somebody else's
            if (folder / "stat").read_text().rsplit(")", 1)[1].split()[0] != "Z":
                yield int(folder.name), set((folder / "environ").read_bytes().split(b"\0"))


@contextmanager
def cluster(nodes: Sequence[str]) -> Iterator[Cluster]:
    """Yield a cluster of nodes with one core each.

    Raises:
        NoClusterError: if Slurm is not installed, or does not start.

    """
    missing = [program for program in PROGRAMS if program_path(program) is None]
    if missing:
        raise NoClusterError(f"{missing[0]} is not installed: apt-get install slurm-wlm munge")
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # not pytest's: the path of a socket must be short
    running = Cluster(folder)
    try:
        try:
            configure(folder, nodes)
            start(running, nodes)
        except (OSError, subprocess.SubprocessError) as error:
            raise NoClusterError(f"Slurm does not start here: {error}") from error
        yield running
    finally:
        running.stop()
        shutil.rmtree(folder, ignore_errors=True)


def configure(folder: Path, nodes: Sequence[str]) -> None:
    """Write slurm.conf and a key."""
    folder.chmod(0o755)  # munged wants to be found
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    host = socket.gethostname().split(".")[0]
    controller, *ports = free_ports(1 + len(nodes))
    lines = [
        f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1 State=UNKNOWN"
        for node, port in zip(nodes, ports, strict=True)
    ]
    text = CONFIGURATION.format(host=host, port=controller, user=getpass.getuser(), folder=folder)
    (folder / "slurm.conf").write_text(text + "\n".join(lines) + "\n")
    (folder / "cgroup.conf").write_text("")


def start(running: Cluster, nodes: Sequence[str]) -> None:
    """Start the daemons and wait until all nodes are idle."""
    folder, configuration = running.folder, str(running.folder / "slurm.conf")
    files = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munge.pid", "seed-file": "munge.seed"}
    options = [f"--{option}={folder / name}" for option, name in {**files, "log-file": "munge.log"}.items()]
    running.start("munged", program_path("munged") or "", "--foreground", "--force", *options)
    wait(lambda: (folder / "munge.socket").exists(), running)
    running.start("slurmctld", program_path("slurmctld") or "", "-D", "-i", "-f", configuration)
    for node in nodes:
        (folder / f"spool-{node}").mkdir()
        running.start(node, program_path("slurmd") or "", "-D", "-N", node, "-f", configuration)
    wait(
        lambda: running.ask("sinfo", "-h", "-N", "-p", "low", "-t", "idle", "-o", "%N").split() == list(nodes), running
    )


def wait(condition: object, running: Cluster) -> None:
    """Wait until it is so.

    Raises:
        OSError: if it is not so in time, or a daemon has ended.

    """
    deadline = time.monotonic() + PATIENCE
    while not condition():  # type: ignore[operator]
        for name, daemon in running.daemons.items():
            if daemon.poll() is not None:
                output = (running.folder / f"{name}.out").read_text().strip().splitlines()
                raise OSError(f"{name} ended with {daemon.returncode}: {output[-1] if output else 'no word'}")
        if time.monotonic() > deadline:
            raise OSError(f"it is not ready after {PATIENCE:.0f} seconds")
        time.sleep(0.1)


def free_ports(number: int) -> list[int]:
    """Return ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def program_path(program: str) -> str | None:
    """Return where a program is; daemons are where not every user looks."""
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]))
