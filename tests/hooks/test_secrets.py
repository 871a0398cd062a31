"""A secret of every kind is given, and everything goes wrong in turn: none is ever seen where it does not belong."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from blocks import BlockSite
from cbsd import Ended, Variant
from harmless import SHARED, image_of, scene
from sim.store import STATE, pack, unpack

# What iscsi.conf(5) takes has 16 characters at most.
SECRETS = {
    "chap": b"cnry7Chap4xQ9zKv",
    "mutual": b"cnry2Mutu8wJ5rTb",
    "key": b"cnry-the-key-file-6hNpWq3s\n\x00\x01\x02\xff" * 3,
    "passphrase": b"cnry the passphrase 1dRmYf8g",
}
# The secret files themselves; what the target knows, and its disks.
BELONGS = ("secrets", "storage")
VARIANT = Variant(
    "iscsi with every secret",
    "iscsi",
    {
        "FENCE": "scsi3",
        "GELI_KEYFILE": "{key}",
        "GELI_PASSFILE": "{passphrase}",
        "ISCSI_CHAP_USER": "env1",
        "ISCSI_MUTUAL_USER": "box",
    },
    ("data",),
)
AT_ONCE = 4


def forms(secret: bytes) -> set[bytes]:
    """How it can look: as it is, in base64 at each of three places in a longer text, in hexadecimal."""
    known = secret.rstrip(b"\n")
    found = {known[:16], known.hex().encode(), known.hex().upper().encode()}
    for shift in range(3):
        text = base64.b64encode(b"\0" * shift + known)
        # The characters at both ends depend on what stands beside it.
        found.add(text[4 if shift else 0 : len(text) - 4][:16])
    return found


FORMS = {name: forms(secret) for name, secret in SECRETS.items()}


def set_up(site: BlockSite) -> None:
    site.secret("chap", SECRETS["chap"] + b"\n")
    site.secret("mutual", SECRETS["mutual"] + b"\n")
    site.secret("key", SECRETS["key"])
    site.secret("passphrase", SECRETS["passphrase"] + b"\n")
    site.storage.chap(SHARED, "env1", SECRETS["chap"].decode(), "box", SECRETS["mutual"].decode())
    image = str(image_of(site))
    site.world.geli_init(image, keys=[SECRETS["key"]], passphrases=[SECRETS["passphrase"].decode()])
    site.world.newfs(f"{image}.eli")
    (site.world.files(f"{image}.eli") / "etc").mkdir()
    configure(site)


def configure(site: BlockSite, **keys: str) -> None:
    files = {f"ISCSI_{name.upper()}_SECRET_FILE": str(site.secrets / name) for name in ("chap", "mutual")}
    site.configure(**{**files, **keys})


@pytest.fixture
def site(tmp_path: Path) -> Iterator[BlockSite]:
    with scene(tmp_path, VARIANT) as site:
        set_up(site)
        yield site


def seen_in(data: bytes) -> list[str]:
    return [name for name, known in FORMS.items() if any(form in data for form in known)]


def content(path: str) -> bytes:
    """Return what is in a file, without what the kernel was told of a session: its state lies there as well."""
    with open(path, "rb") as stream:
        data = stream.read()
    # A new one is empty until its writer, which may just have been killed, comes to it.
    if data and os.path.basename(path).startswith(STATE):
        state = unpack(data)
        for session in state["sessions"]:
            session["known"] = {}
        data = pack(state)
    return data


def leaks(site: BlockSite, *ended: Ended) -> list[str]:
    """Where a secret is that does not belong there."""
    found = [f"{name} in what was printed" for end in ended for name in seen_in((end.stdout + end.stderr).encode())]
    for call in site.world.calls():
        found += [f"{name} in the call {call['argv']}" for name in seen_in(json.dumps(call).encode())]
    for top, directories, names in os.walk(site.top):
        if top == str(site.top):
            directories[:] = [name for name in directories if name not in BELONGS]
        for name in names:
            path = f"{top}/{name}"
            if os.path.islink(path) or not os.path.isfile(path):
                continue
            try:
                found += [f"{secret} in {path}" for secret in seen_in(content(path))]
            except FileNotFoundError:
                # The machine's state is replaced all the time.
                continue
    return found


def test_fault_84_the_search_finds_what_is_there(site: BlockSite) -> None:
    for name, secret in SECRETS.items():
        for number, text in enumerate((secret, b"ab" + base64.b64encode(b"x" + secret), secret.hex().encode())):
            path = site.world.path / "run" / "leak"
            path.write_bytes(text)
            assert leaks(site) == [f"{name} in {path}"], number
            path.unlink()
    site.world.command("iscsictl", "-L", "-s", SECRETS["chap"].decode())
    assert len(leaks(site)) == 2, "neither the call nor the log of calls"


def test_fault_84_nothing_is_seen_when_all_is_well(site: BlockSite) -> None:
    where = ("iscsi", "-w", str(site.workdir), "-j", "jail1")
    for words in (
        ["plan"], ["start", "-v"], ["start", "-vv"], ["status"], ["status", "--json"], ["check"], ["plan", "--stop"],
        ["config show"], ["config check"], ["stop", "-vv"],
    ):  # fmt: skip
        verb, *options = words
        ended = site.hand(*verb.split(), *where, *options)
        assert ended.returncode == 0 or verb == "plan", ended.stderr
        assert leaks(site, ended) == []
    for ended in (site.start("-vv"), site.start("-vv"), site.stop("-vv")):
        assert ended.returncode == 0, ended.stderr
        assert leaks(site, ended) == []


def test_fault_84_what_iscsictl_is_given_is_a_file_without_a_name(site: BlockSite) -> None:
    """And only root could have opened it while it had one."""
    site.world.fault("iscsictl", "hang", nth=2)
    with site.begin() as hook:
        while len(site.world.calls("iscsictl")) < 2 and hook.poll() is None:
            time.sleep(0.02)
        call = site.world.calls("iscsictl")[-1]
        assert call["argv"] == ["iscsictl", "-A", "-c", "/dev/stdin", "-n", "envstart"]
        assert call["stdin_links_and_mode"] == (0, 0o600)
        assert leaks(site) == []
        hook.kill()
        hook.communicate()
    assert leaks(site) == []


@pytest.mark.parametrize(
    "how",
    ["wrong chap", "wrong mutual", "wrong key", "wrong passphrase", "quote", "modes", "frozen", "refused", "no target",
     "no room"],
)  # fmt: skip
def test_fault_84_nothing_is_seen_when_it_fails(site: BlockSite, how: str) -> None:
    configure(site, TIMEOUT="6", ISCSI_LOGIN_TIMEOUT="1")
    if how == "wrong chap":
        site.storage.chap(SHARED, "env1", "another")
    elif how == "wrong mutual":
        site.storage.chap(SHARED, "env1", SECRETS["chap"].decode(), "box", "another")
    elif how in ("wrong key", "wrong passphrase"):
        site.world.geli_init(str(image_of(site)), keys=[b"another"], passphrases=["another"])
    elif how == "quote":
        site.secret("chap", b'"' + SECRETS["chap"][1:])
        site.secret("mutual", SECRETS["mutual"] + b" is too long")
    elif how == "modes":
        (site.secrets / "chap").chmod(0o644)
    elif how == "no target":
        site.storage.remove_target(SHARED)
    elif how == "no room":
        (site.world.path / "run").rename(site.world.path / "run.old")
        (site.world.path / "run").write_text("")
    else:
        getattr(site.storage, {"frozen": "freeze", "refused": "refuse"}[how])()
    ended = site.start("-vv")
    assert ended.returncode != 0
    assert leaks(site, ended) == []
    if how == "quote":
        assert SECRETS["chap"].decode()[1:] not in ended.stderr


def places(top: Path, verb: str) -> list[int]:
    """Return the number of the first call of each distinct command line that an undisturbed run runs."""
    with scene(top, VARIANT) as site:
        set_up(site)
        if verb == "stop":
            site.preset()
        ended = site.start() if verb == "start" else site.stop()
        assert ended.returncode == 0, ended.stderr
        lines = [tuple(call["argv"]) for call in site.world.calls()]
    return [lines.index(line) + 1 for line in dict.fromkeys(lines)]


def play(top: Path, verb: str, nth: int, what: str) -> str:
    with BlockSite(top / f"{verb}-{nth}-{what}", VARIANT) as site:
        set_up(site)
        configure(site, TIMEOUT="6")
        if verb == "stop":
            site.preset()
        if what == "hang":
            site.world.fault(None, "hang", nth=nth)
        else:
            site.world.fault(None, "kill-parent", nth=nth, when=what)
        with site.begin(verb) as hook:
            while what == "hang" and len(site.world.calls()) < nth and hook.poll() is None:
                time.sleep(0.02)
            found = leaks(site)
            if what == "hang":
                hook.send_signal(signal.SIGTERM)
            out, err = hook.communicate()
        found += leaks(site, subprocess.CompletedProcess(hook.args, hook.returncode, out, err))
        return f"{verb} {nth} {what}: {found}" if found or site.world.panic else ""


@pytest.mark.first(1)
@pytest.mark.parametrize(
    ("verb", "whats"), [("start", ("hang", "before", "during", "after")), ("stop", ("hang", "during"))]
)
def test_fault_84_nothing_is_seen_wherever_it_ends(tmp_path: Path, verb: str, whats: tuple[str, ...]) -> None:
    cases = [(nth, what) for nth in places(tmp_path / "undisturbed", verb) for what in whats]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        wrong = [found for found in pool.map(lambda case: play(tmp_path, verb, *case), cases) if found]
    assert not wrong, "\n".join(wrong)
