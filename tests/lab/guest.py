"""A guest: a virtual machine that runs commands for us, can be frozen like a dead server, and switched off."""

from __future__ import annotations

import atexit
import base64
import contextlib
import functools
import json
import os
import random
import select
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from .image import Image

# Seconds: under software emulation, beside two others, a guest takes half a minute to start.
BOOT = 240.0
# What the agent needs beyond the time that a command may take.
MARGIN = 60.0
# Seconds in which a kernel must have said something, where the machine can really run guests by itself.
_TRIAL = 6.0


class Ended(NamedTuple):
    """How a command ended: ``status`` is None if it did not in time; ``seconds`` by the guest's own clock."""

    status: int | None
    out: str
    seconds: float

    @property
    def last(self) -> str:
        """The line that tells why."""
        lines = self.out.splitlines()
        return lines[-1] if lines else ""


def _qemu(image: Image, accelerator: str, memory: int) -> list[str]:
    return [
        # setpriv(1): no guest outlives the tests, however they end.
        "setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64",
        "-M", "q35", "-accel", accelerator, "-cpu", "max", "-m", str(memory), "-smp", "1",
        "-display", "none", "-no-reboot", "-nodefaults",
        "-kernel", str(image.kernel), "-initrd", str(image.initrd),
    ]  # fmt: skip


@functools.lru_cache
def accelerator(image: Image) -> str:
    """How guests are run: by KVM, where it is more than a device node, or else by software."""
    given = os.environ.get("ENVSTART_LAB_ACCEL", "")
    if given or not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return given or "tcg"
    trial = [*_qemu(image, "kvm", 256), "-serial", "stdio", "-append", "console=ttyS0 panic=-1"]
    with subprocess.Popen(
        trial, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        heard = select.select([process.stdout], [], [], _TRIAL)[0] and os.read(process.stdout.fileno(), 1)
        process.kill()
    return "kvm" if heard else "tcg"


class Wire:
    """What connects the guests of one run, and nobody else."""

    def __init__(self) -> None:
        number = random.SystemRandom().randrange(1 << 16)
        self.option = f"socket,id=net,mcast=230.7.{number >> 8}.{number & 255}:17071,localaddr=127.0.0.1"


class Guest:
    """One machine, with the address 10.0.0.N; files it writes are gone with the next boot()."""

    # MiB.
    memory = 448

    def __init__(self, name: str, number: int, image: Image, wire: Wire, logs: Path) -> None:
        self.name = name
        self.number = number
        self.address = f"10.0.0.{number}"
        self.console = logs / f"{name}.console"
        self._image = image
        self._wire = wire
        self._sockets = Path(tempfile.mkdtemp(prefix="lab."))
        self._machine: subprocess.Popen[bytes] | None = None
        self._answers: dict[int, dict[str, Any]] = {}
        self._changed = threading.Condition()
        self._asked = 0
        atexit.register(self.off)

    # Power.

    def boot(self) -> None:
        """Switch it on, from the disk as it was made; returns at once, see ready()."""
        self.off()
        self._answers.clear()
        argv = [
            *_qemu(self._image, accelerator(self._image), self.memory), "-serial", f"file:{self.console}",
            # The kernel would take an emulated timer for broken on a machine that has much to do.
            "-append", "console=ttyS0 net.ifnames=0 mitigations=off no_timer_check quiet panic=-1 "
            f"lab.name={self.name} lab.address={self.address}",
            "-drive", f"file={self._image.disk},format=raw,if=virtio,snapshot=on",
            "-netdev", self._wire.option,
            "-device", f"virtio-net-pci,netdev=net,mac=52:54:00:00:00:{self.number:02x}",
            "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=agent",
            "-chardev", f"socket,id=agent,path={self._sockets}/agent,server=on,wait=off",
            "-qmp", f"unix:{self._sockets}/qmp,server=on,wait=off",
        ]  # fmt: skip
        self._machine = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
        self._agent = self._connect("agent")
        self._listener = threading.Thread(target=self._listen, args=(self._agent,), daemon=True)
        self._listener.start()

    def ready(self) -> None:
        """Wait until it takes commands."""
        self._wait(0, BOOT)

    def reset(self) -> None:
        """Cut the power and switch on: nothing is written back; the guest is ready when this returns."""
        self.boot()
        self.ready()

    def off(self) -> None:
        """Switch it off, whatever it does."""
        if self._machine is not None:
            self._machine.kill()
            self._machine.wait()
            self._machine = None
            self._listener.join()
            self._agent.close()

    @property
    def is_on(self) -> bool:
        """Whether it has power, frozen or not."""
        return self._machine is not None and self._machine.poll() is None

    def pause(self) -> None:
        """Freeze it: it neither answers nor refuses, as a server that went silent."""
        self._qmp("stop")

    def resume(self) -> None:
        """Let it go on as if nothing had been; one without power stays without."""
        if self.is_on:
            self._qmp("cont")

    def _qmp(self, command: str) -> None:
        with self._connect("qmp") as connection, connection.makefile("rwb") as file:
            file.readline()
            for word in ("qmp_capabilities", command):
                file.write(json.dumps({"execute": word}).encode() + b"\n")
                file.flush()
                while b'"return"' not in (answer := file.readline()):
                    if not answer or b'"error"' in answer:
                        raise RuntimeError(f"{self.name}: {command}: {answer!r}")

    # Commands.

    def run(self, command: str, timeout: float = 60.0) -> Ended:
        """Run it to its end; see Ended."""
        return self.end(self.begin(command, timeout), timeout)

    def do(self, command: str, timeout: float = 60.0) -> str:
        """Run what has to succeed, and return what it says."""
        ended = self.run(command, timeout)
        assert ended.status == 0, f"{self.name}: {command}: {ended}"
        return ended.out

    def begin(self, command: str, timeout: float = 60.0) -> int:
        """Start a command and return its number, for end()."""
        return self._ask({"run": command, "timeout": timeout})

    def end(self, number: int, timeout: float = 60.0) -> Ended:
        """Wait for what begin() has started."""
        answer = self._wait(number, timeout + MARGIN)
        return Ended(answer["status"], answer["out"], answer["seconds"])

    def put(self, path: str, data: str | bytes, mode: int = 0o644) -> None:
        """Write a file."""
        content = data.encode() if isinstance(data, str) else data
        self._wait(self._ask({"path": path, "data": base64.b64encode(content).decode(), "mode": mode}), MARGIN)

    def _ask(self, request: dict[str, Any]) -> int:
        self._asked += 1
        self._agent.sendall(json.dumps({"id": self._asked, **request}).encode() + b"\n")
        return self._asked

    def _wait(self, number: int, timeout: float) -> dict[str, Any]:
        until = time.monotonic() + timeout
        with self._changed:
            while number not in self._answers:
                assert self._machine is not None
                assert self._machine.poll() is None, f"{self.name} has ended; its console says:\n{self._last_words()}"
                assert time.monotonic() < until, f"{self.name} is silent; its console says:\n{self._last_words()}"
                self._changed.wait(1.0)
            return self._answers.pop(number)

    def _last_words(self) -> str:
        try:
            return self.console.read_text(errors="replace")[-2000:]
        except OSError:
            return "nothing"

    def _connect(self, name: str) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        for _ in range(200):
            try:
                connection.connect(str(self._sockets / name))
            except OSError:
                time.sleep(0.05)
            else:
                return connection
        connection.close()
        raise RuntimeError(f"{self.name} does not start")

    def _listen(self, agent: socket.socket) -> None:
        # Switched off, it says no last word.
        with contextlib.suppress(ConnectionError), agent.makefile("rb") as lines:
            for line in lines:
                answer = json.loads(line)
                with self._changed:
                    self._answers[answer.pop("id")] = answer
                    self._changed.notify_all()
