"""The first program of a guest: it makes it ready, and runs what it is told over a serial port, a line of JSON each.

    {"id": 1, "run": "mount", "timeout": 10}  ->  {"id": 1, "status": 0, "out": "...", "seconds": 0.1}
    {"id": 2, "path": "/path", "data": BASE64, "mode": 420}  ->  {"id": 2, "status": 0, ...}

A command that does not end in time is killed, and not waited for: its status is null. Commands run side by side.
"""

from __future__ import annotations

import base64
import glob
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
READY = """
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm; mount -t devpts pts /dev/pts; mount -t tmpfs shm /dev/shm
mount -t tmpfs -o mode=755 run /run; mkdir -p /run/lock; mount -t tmpfs tmp /tmp
ln -s /proc/self/fd /dev/fd; ln -s fd/0 /dev/stdin; ln -s fd/1 /dev/stdout; ln -s fd/2 /dev/stderr
mount --make-rshared /
modprobe -a virtio_net virtio_console configfs fuse
mount -t configfs config /sys/kernel/config
hostname "$1"; ip link set lo up; ip link set eth0 up; ip address add "$2"/24 dev eth0
"""


def given(name: str) -> str:
    """Return a value of the kernel's command line."""
    with open("/proc/cmdline") as file:
        words = dict(word.partition("=")[::2] for word in file.read().split())
    return words[name]


def run(run: str, timeout: float) -> dict[str, object]:
    began = time.monotonic()
    with open(os.memfd_create("out"), "w+b") as out:
        child = subprocess.Popen(
            ["sh", "-c", run], stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
        status: int | None
        try:
            status = child.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            status = None
        seconds = time.monotonic() - began
        out.seek(0)
        return {"status": status, "out": out.read().decode("utf-8", "replace"), "seconds": seconds}


def put(path: str, data: str, mode: int) -> dict[str, object]:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(base64.b64decode(data))
    os.chmod(path, mode)
    return {"status": 0, "out": "", "seconds": 0.0}


def main() -> None:
    if os.getpid() == 1 and os.fork():
        # Process 1 takes in whoever has lost his parent.
        while True:
            os.wait()
    os.environ.update(PATH=PATH, HOME="/root", LC_ALL="C")
    subprocess.run(["mount", "-t", "proc", "proc", "/proc"])
    subprocess.run(["sh", "-c", READY, "sh", given("lab.name"), given("lab.address")])
    subprocess.Popen(["/lib/systemd/systemd-udevd"])
    while not (ports := glob.glob("/dev/vport*")):
        time.sleep(0.05)
    port = os.open(ports[0], os.O_RDWR)
    lock = threading.Lock()

    def tell(answer: dict[str, object]) -> None:
        with lock:
            data = json.dumps(answer).encode() + b"\n"
            while data:
                data = data[os.write(port, data) :]

    def serve(asked: dict[str, Any]) -> None:
        number = asked.pop("id")
        try:
            answer = run(**asked) if "run" in asked else put(**asked)
        except Exception as error:
            answer = {"status": -1, "out": repr(error), "seconds": 0.0}
        tell({"id": number, **answer})

    tell({"id": 0})
    for line in lines_of(port):
        threading.Thread(target=serve, args=(json.loads(line),), daemon=True).start()


def lines_of(port: int) -> Iterator[bytes]:
    """Yield the lines that come from the other end, for ever."""
    text = b""
    while True:
        piece = os.read(port, 65536)
        if not piece:
            # Nobody is at the other end at the moment.
            time.sleep(0.05)
        *lines, text = (text + piece).split(b"\n")
        yield from lines


if __name__ == "__main__":
    main()
