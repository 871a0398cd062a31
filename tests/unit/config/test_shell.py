"""The reader of configuration files against the shells that it stands for.

The differential test generates files, from a grammar and by changing bytes of valid ones, and runs those that the
reader accepts in every shell of this machine: they must give the same keys with the same values, byte for byte. What
the reader refuses needs no shell, so nothing that it takes for a command is ever run.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from fuzzing import FACTOR
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from envstart.config import shell

# ---------------------------------------------------------------------------------------------------------------------
# Shells

# Set or changed by some shell by itself, so that they say nothing of the file.
_DYNAMIC = re.compile(rb"_|BASH.*|DIRSTACK|EPOCH.*|FUNCNAME|GROUPS|HISTCMD|LINENO|OPTIND|PPID|RANDOM|SECONDS|SRANDOM")
_IDENTIFIER = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*")
_SHELLS = {
    "sh": ("/bin/sh",),
    "dash": ("dash",),
    "bash": ("bash", "--posix"),
    "busybox": ("busybox", "ash"),
    "ksh": ("ksh",),
}
# The outer shell lives on; each file has a subshell of its own. A file that ends it leaves no marker behind.
_LOOP = """\
ulimit -c 0 -f 64 2>/dev/null; ulimit -t 20
while read -r number; do
(
. "./$number.names"
. "./$number.conf" >/dev/null 2>&1 </dev/null
. "./$number.names"
printf 'whole\\0'
)
printf 'end\\0'
done
"""


class Shell:
    """One running shell: ``values(content)`` is what it makes of a file, or None if the file ended it."""

    def __init__(self, argv: tuple[str, ...], directory: Path, user: int | None) -> None:
        self.directory = directory
        self.count = 0
        (directory / "loop.sh").write_text(_LOOP)
        self.process = subprocess.Popen(
            [*argv, "./loop.sh"],
            cwd=directory,
            env={"PATH": "/nonexistent"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            user=user,
            group=user,
            extra_groups=None if user is None else [],
            bufsize=0,
        )

    def values(self, content: bytes) -> dict[bytes, bytes] | None:
        names = sorted({name for name in _IDENTIFIER.findall(content) if not _DYNAMIC.fullmatch(name)})
        lines = [b"printf '%%s\\0' \"${%s+=$%s}\"\n" % (name, name) for name in names]
        (self.directory / f"{self.count}.conf").write_bytes(content)
        (self.directory / f"{self.count}.names").write_bytes(b"".join(lines))
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"%d\n" % self.count)
        answer = b""
        while not answer.endswith(b"end\0"):
            assert select.select([self.process.stdout], [], [], 20)[0], ("the shell hangs", content)
            chunk = self.process.stdout.read(65536)
            assert chunk, ("the shell is gone", content)
            answer += chunk
        for suffix in ("conf", "names"):
            (self.directory / f"{self.count}.{suffix}").unlink()
        self.count += 1
        fields = answer.split(b"\0")[:-2]
        if len(fields) != 2 * len(names) + 1 or fields[-1] != b"whole":
            return None
        before, after = fields[: len(names)], fields[len(names) : -1]
        return {name: new[1:] for name, old, new in zip(names, before, after) if new != old}

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _installed() -> dict[str, tuple[str, ...]]:
    """Return the shells of this machine, each program once."""
    found: dict[str, tuple[str, ...]] = {}
    for name, (program, *options) in _SHELLS.items():
        path = shutil.which(program)
        if path is None:
            continue
        argv = (os.path.realpath(path), *options)
        # A BusyBox or a bash that is called sh behaves by that name.
        argv = (path, *options) if "bash" in argv[0] or "busybox" in argv[0] else argv
        if argv not in found.values():
            found[name] = argv
    return found


def _started(argv: tuple[str, ...], directory: Path) -> Shell:
    """Whatever slips through cannot hurt: there are no commands, and, if it can be had, no right to write anywhere."""
    if os.geteuid() == 0:
        one = None
        try:
            one = Shell(argv, directory, 65534)
            if one.values(b"A=x") == {b"A": b"x"}:
                return one
        except (OSError, AssertionError, subprocess.SubprocessError):
            pass
        if one is not None:
            one.close()
    return Shell(argv, directory, None)


@pytest.fixture(scope="module")
def shells() -> Iterator[dict[str, Shell]]:
    found: dict[str, Shell] = {}
    with tempfile.TemporaryDirectory() as parent:
        os.chmod(parent, 0o755)
        try:
            for name, argv in _installed().items():
                directory = Path(parent, name)
                directory.mkdir(0o755)
                found[name] = _started(argv, directory)
            yield found
        finally:
            for one in found.values():
                one.close()


def _read(content: bytes) -> tuple[dict[bytes, bytes], shell.Reading]:
    reading = shell.read(os.fsdecode(content))
    values = {assignment.key.encode(): os.fsencode(assignment.value) for assignment in reading.assignments}
    return values, reading


def _line_count(content: bytes) -> int:
    return content.count(b"\n") + 1


# ---------------------------------------------------------------------------------------------------------------------
# The differential test

# No word is the name of a command or of a builtin, and no path of these words exists.
_KEYS = st.sampled_from([b"A", b"B", b"C", b"NFS_X", b"a1", b"_k", b"if", b"in", b"export"])
_PLAIN = st.sampled_from(
    [b"x", b"y9", b"/zz/q", b"-orw", b"a,b", b"k#v", b"k=v", b"10.0.0.1", b"[::1]", b"%s", b"@", b"!", b"^", b"}", b"+"]
)
_ODD = st.sampled_from(
    [b"*", b"?", b"[x]", b"{x,y}", b"~", b"~/q", b":~", b"=~", b"\xe9", b"\xd0\xbf", b"\x81", b"\x01", b"\x7f", b"\x0b"]
    + [b"\x88", b"\xc2\xa0", b"$", b"$,", b"$/", b"!x", b"\\ ", b"\\\\", b"\\x", b"\\'", b'\\"', b"\\$", b"\\`", b"\\#"]
    + [b"\\;", b"\\~", b"\\\n", b"\\*", b"]", b"{", b"''", b'""']
)
_USES = st.builds(
    lambda form, key: form % key,
    st.sampled_from([b"$%s", b"${%s}", b'"$%s"', b'"${%s}"', b"$%s/x", b'"a $%s"', b"$%s~", b"'$%s'", b"\\$%s"]),
    _KEYS,
)
_SINGLE = st.lists(
    st.sampled_from([b"x", b" ", b"#", b"\n", b"\\", b'"', b"$A", b"`", b";", b"*", b"\t", b"\xe9", b"a,b", b"$(x)"]),
    max_size=4,
).map(lambda parts: b"'" + b"".join(parts) + b"'")
_DOUBLE = st.lists(
    st.sampled_from(
        [b"x", b" ", b"#", b"\n", b"\\\\", b'\\"', b"\\$", b"\\`", b"\\x", b"\\\n", b"'", b";", b"*", b"~", b"$", b"$ "]
        + [b"$A", b"${B}", b"\t", b"\xe9", b"\x82", b"(", b"&", b"\\'", b"\\a", b"$,", b"}"]
    ),
    max_size=5,
).map(lambda parts: b'"' + b"".join(parts) + b'"')
_WORD = st.lists(st.one_of(_PLAIN, _PLAIN, _SINGLE, _DOUBLE, _ODD, _USES), max_size=3).map(b"".join)
_ASSIGNMENT = st.builds(lambda key, word: key + b"=" + word, _KEYS, _WORD)
_BLANKS = st.sampled_from([b" ", b"\t", b"  ", b" \\\n", b" \\\n "])
_MANY = st.builds(lambda blank, parts: blank.join(parts), _BLANKS, st.lists(_ASSIGNMENT, min_size=1, max_size=3))
_STATEMENT = st.one_of(
    _ASSIGNMENT,
    _ASSIGNMENT,
    _MANY,
    st.builds(lambda blank, many: b"export" + blank + many, _BLANKS, _MANY),
    st.builds(lambda key, many: b"export " + key + b" " + many, _KEYS, _MANY),
    st.builds(lambda key: b"export " + key, _KEYS),
    st.just(b""),
)
_END = st.sampled_from(
    [b"\n", b"\n", b"\n\n", b";", b"; ", b" ;\t", b' # it\'s "so"\n', b";#\n", b"\n# \\\n", b" \n\t"]
)
_LINE = st.builds(lambda statement, end: statement + end, _STATEMENT, _END)
# Separated by two blanks; most of it is no assignment.
_JUNK = (
    b"zz  zz x  A =x  A= x  A+=x  A[0]=x  A=(x y)  export  export -p  export A+=x  ! A=x  if A=x  { A=x; }  A=x &&  "
    b"A=x | B=y  A=x &  A=x zz  zz() { A=x; }  A=x; ; B=y  ;;  <<A  A\\\nB=x  exp\\\nort A=x  A=x >zz  'A'=x  $A=x  "
    b"\xc3\xa9=x  1A=x  A-B=x  export 'A=x'  export A B C=x  #A=x  # A=x  A=#x  A=''#x  A=x #y  \x0bA=x  \\A=x  "
    b"IFS=x  UID=7  LINENO=7  OPTIND=7  PPID=7  RANDOM=7  _=x  export UID=7  PATH=x  HOME=x  export A=x*"
).split(b"  ")
_VALID = st.lists(_LINE, min_size=1, max_size=5).map(b"".join)


# Half of the files begin with all keys set, so that what uses them is read.
_ALL_SET = b"A=x; B='p  q'\nC='/zz/*' NFS_X='' a1='~'\n_k='$A \\\\ #'; if=1; in=2; export=3\n"
_FILE = st.builds(bytes.__add__, st.sampled_from([b"", _ALL_SET]), _VALID)
_PUT = [
    *(bytes([byte]) for byte in range(256) if byte != ord("[")),
    *b'\\ \n \\\n ; \' " # = $ ~ :~ $A ${A} "$B" \nA= ;A= \tA= \nexport\t ;export\t {x,y} x* \\~ \'\' ""'.split(b" ")
    * 8,
    *b"$(x) `x` $((1)) $[1] $'x' $\"x\" ${A:-x} ${#A} $1 $$ $\\\nA $A\\\nB".split(b" ") * 2,
    *(b"\n" + junk + b"\n" for junk in _JUNK),
]


def _mutants(content: bytes, random: Random, count: int) -> Iterator[bytes]:
    """Yield the file with a few things put in, taken out or doubled at any byte, ``count`` times."""
    for _ in range(count):
        mutant = content
        for _ in range(random.choice((1, 1, 2, 3))):
            at = random.randint(0, len(mutant))
            length = random.randint(1, 4)
            kind = random.randint(0, 5)
            if kind < 4:
                mutant = mutant[:at] + random.choice(_PUT) + mutant[at:]
            elif kind == 4:
                mutant = mutant[:at] + mutant[at + length :]
            else:
                mutant = mutant[:at] + mutant[at : at + length] + mutant[at:]
        yield mutant


_counts: Counter[str] = Counter()
_EXAMPLES = 300 * FACTOR
_MUTANTS = 9


@pytest.fixture(scope="module", autouse=True)
def _say_counts() -> Iterator[None]:
    yield
    if _counts:
        print(f"\n{_counts['files']} files: {_counts['compared']} compared, {_counts['refused']} refused")


def _agree(content: bytes, shells: dict[str, Shell]) -> bool:
    """Whether the reader accepts the file; it must then agree with all shells."""
    values, reading = _read(content)
    for line, text in reading.problems:
        assert 1 <= line <= _line_count(content)
        assert text
    if reading.problems or any(assignment.section for assignment in reading.assignments):
        return False
    for name, one in shells.items():
        assert one.values(content) == values, (name, content)
    return True


def _counted(content: bytes, shells: dict[str, Shell]) -> bool:
    agreed = _agree(content, shells)
    _counts["files"] += 1
    _counts["compared" if agreed else "refused"] += 1
    return agreed


@settings(
    max_examples=_EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
)
@example(b"A=0; export A=1 B=$A", Random(0))
@example(b"A=0\nA=1 B=$A", Random(0))
@example(b"B=x BC=y\nA=$\\\nB\n", Random(0))
@example(b"B=x\nBC=y\nA=$B\\\nC\n", Random(0))
@example(b'B=x\nBC=y\nA="$B\\\nC"\n', Random(0))
@example(b"A=\\\n~/x", Random(0))
@example(b"B=\nA=$B~/x", Random(0))
@example(b"export A={x,y}", Random(0))
@example(b"B='x  *'\nexport A=$B", Random(0))
@example(b"A=$[1+1]", Random(0))
@example(b"UID=7\nA=$UID", Random(0))
@example(b'A="\\\x7f"', Random(0))
@given(_FILE, st.integers(0, 1 << 32).map(Random))
def test_fault_100_101_reader_and_shells_agree_or_the_file_is_refused(
    shells: dict[str, Shell], content: bytes, random: Random
) -> None:
    """Issue: every value must be what /bin/sh would make of the line, or be refused with its line."""
    for one in (content, *_mutants(content, random, _MUTANTS)):
        if not _counted(one, shells):
            # What is left of it without the lines that were told.
            told = {line for line, _ in _read(one)[1].problems}
            kept = [line for number, line in enumerate(one.split(b"\n"), 1) if number not in told]
            _counted(b"\n".join(kept), shells)


def test_enough_of_the_generated_files_are_compared() -> None:
    """A reader that refuses everything would pass the test above."""
    if not _counts["files"]:
        pytest.skip("the differential test did not run")
    assert _counts["compared"] > _counts["files"] * 0.25


_SAFE_WORD = st.lists(st.one_of(_PLAIN, _SINGLE, st.just(b'"x y"'), st.just(b"\\ ")), min_size=1, max_size=3).map(
    b"".join
)


@settings(max_examples=200, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(_KEYS, _SAFE_WORD, _END, st.booleans()), min_size=1, max_size=5))
def test_what_is_plain_is_never_refused(
    shells: dict[str, Shell], lines: list[tuple[bytes, bytes, bytes, bool]]
) -> None:
    content = b""
    for key, word, end, exported in lines:
        # [ is for files, and so for a shell that looks for them, once it is an argument of export.
        prefix = b"export " if exported and b"[" not in word else b""
        content += prefix + key + b"=" + word + end
    assert _agree(content, shells)


# ---------------------------------------------------------------------------------------------------------------------
# Each form once

_ACCEPTED = {
    "plain": (b"A=x", b"x"),
    "empty": (b"A=", b""),
    "empty quotes": (b"A=\"\"''", b""),
    "export": (b"export A=x", b"x"),
    "export with tabs": (b"\texport\tA=x", b"x"),
    "export of several": (b"export B A=x C=y", b"x"),
    "export on its own": (b"A=x\nexport A", b"x"),
    "single quotes": (b"A='x \"$B\" `y` \\'", b'x "$B" `y` \\'),
    "double quotes": (b"A=\"x 'y' # ; &\"", b"x 'y' # ; &"),
    'a"b"c': (b"A=a\"b\"c'd'", b"abcd"),
    "# in a word": (b"A=a#b", b"a#b"),
    "# begins the word": (b"A=#b", b"#b"),
    "# after empty quotes": (b"A=''#b", b"#b"),
    "comment": (b"A=x # y", b"x"),
    "comment after ;": (b"A=x;# y", b"x"),
    "comment with a quote": (b"# it's\nA=x", b"x"),
    "comment is not continued": (b"# \\\nA=x", b"x"),
    "a,b": (b"A=a,b", b"a,b"),
    "two in a line": (b"A=1; B=2", b"1"),
    "two in a command": (b"B=2 A=1", b"1"),
    "trailing ;": (b'A="x";', b"x"),
    "duplicate": (b"A=1\nA=2", b"2"),
    "= in the value": (b"A=b=c", b"b=c"),
    "no final newline": (b"B=1\nA=x", b"x"),
    "leading blanks": (b"  \t A=x", b"x"),
    "earlier key": (b"B=/n\nA=$B/x", b"/n/x"),
    "earlier key in braces": (b"B=/n\nA=${B}x", b"/nx"),
    "earlier key in double quotes": (b'B="a  b"\nA="$B c"', b"a  b c"),
    "earlier key on the same line": (b"B=1; A=$B", b"1"),
    "earlier key with blanks": (b'B="a  b"\nA=$B', b"a  b"),
    "earlier key with a dollar": (b"B='$C'\nA=$B", b"$C"),
    "key that adds to itself": (b'A=-orw\nA="$A -ohard"', b"-orw -ohard"),
    "braces over two lines": (b"B=x\nA=${B}\\\nC", b"xC"),
    "dollar at the end": (b"A=x$", b"x$"),
    "dollar before a quote": (b'A="x$"', b"x$"),
    "dollar and no name": (b"A=a$,b$%c", b"a$,b$%c"),
    "escaped dollar": (b'A="\\$B"', b"$B"),
    "escaped blank": (b"A=a\\ b", b"a b"),
    "escaped quote": (b"A='it'\\''s'", b"it's"),
    "backslash in double quotes": (b'A="\\a\\\\b\\""', b'\\a\\b"'),
    "continued": (b"A=a\\\nb", b"ab"),
    "continued in double quotes": (b'A="a\\\nb"', b"ab"),
    "continued in single quotes": (b"A='a\\\nb'", b"a\\\nb"),
    "continued between words": (b"B=1 \\\n  A=x", b"x"),
    "newline in quotes": (b"A='a\nb'", b"a\nb"),
    "globs": (b"A=*.?[x]", b"*.?[x]"),
    "braces": (b"A={a,b}", b"{a,b}"),
    "tilde in the word": (b"A=a~b", b"a~b"),
    "tilde in quotes": (b"A='~/x'", b"~/x"),
    "exclamation mark": (b"A=a!b", b"a!b"),
    "Latin-1": (b"A=\xe9t\xe9", b"\xe9t\xe9"),
    "UTF-8": (b"A=\xd0\xbf", b"\xd0\xbf"),
    "bytes that shells use inside": (b"A=\x81\x82\x83\x84\x86\x87\x88", b"\x81\x82\x83\x84\x86\x87\x88"),
    "other white space": (b"A=a\xc2\xa0\xc2\x85b", b"a\xc2\xa0\xc2\x85b"),
    "keyword as a key": (b"if=1; export=2; A=x", b"x"),
}


@pytest.mark.parametrize("form", _ACCEPTED)
def test_accepted(form: str, shells: dict[str, Shell]) -> None:
    content, value = _ACCEPTED[form]
    values, reading = _read(content)
    assert reading.problems == []
    assert values[b"A"] == value
    assert _agree(content, shells)


_TOLD = {
    "command substitution": (b"A=$(zz)", 1, "has a command substitution, which is never run"),
    "command substitution in quotes": (b'\n\nA="x $(zz)"', 3, "has a command substitution"),
    "backticks": (b"A=`zz`", 1, "has a command substitution"),
    "arithmetic": (b"A=$((1+1))", 1, "has a command substitution"),
    "old arithmetic": (b"A=$[1+1]", 1, "has $[, which only a shell can know"),
    "C quotes": (b"A=$'x'", 1, "has $', which only a shell can know"),
    "translated quotes": (b'A=$"x"', 1, 'has $", which only a shell can know'),
    "default value": (b"A=${B:-x}", 1, "has a ${...} that is more than the name of a key"),
    "unknown key": (b"A=$HOME/x", 1, "has $HOME, which is not set above it; the caller's variables are not used"),
    "key that is set below": (b"A=$B\nB=1", 1, "has $B, which is not set above it"),
    "itself, for the first time": (b"A=$A", 1, "has $A, which is not set above it"),
    "positional parameter": (b"A=$1", 1, "has $1, which only a shell can know"),
    "process id": (b"A=$$", 1, "has $$, which only a shell can know"),
    "same command": (b"B=1 A=$B", 1, "has $B, which is set in the same command"),
    "same export": (b"B=0\nexport B=1 A=$B", 2, "has $B, which is set in the same command"),
    "$ over two lines": (b"B=1\nA=$\\\nB", 2, "has $ at the end of a line that is continued"),
    "$B over two lines": (b'B=1\nA="$B\\\nC"', 2, "has $B at the end of a line that is continued"),
    "tilde": (b"A=~/x", 1, "A has an unquoted ~; write the directory out"),
    "tilde after a colon": (b"A=x:~/y", 1, "A has an unquoted ~"),
    "tilde after a continued line": (b"A=\\\n~/y", 1, "A has an unquoted ~"),
    "glob and export": (b"export A=x*", 1, "A has an unquoted *; put the value between quotes"),
    "braces and export": (b"export A={x,y}", 1, "A has an unquoted {; put the value between quotes"),
    "blanks and export": (b"B='x y'\nexport A=$B", 2, "A has an unquoted $, which some shells split"),
    "command": (b"A=1\nzz -x\n", 2, """is not KEY="value": 'zz -x'"""),
    "command behind": (b"A=1 zz", 1, """is not KEY="value": 'zz'"""),
    "blank before =": (b"A = x", 1, """is not KEY="value": 'A = x'"""),
    "appended": (b"A+=x", 1, """is not KEY="value": 'A+=x'"""),
    "array": (b"A=(x y)", 1, "A has an unquoted (; put the value between quotes"),
    "background": (b"A=x&", 1, "A has an unquoted &"),
    "pipe": (b"A=x|zz", 1, "A has an unquoted |"),
    "redirection": (b"A=x>zz", 1, "A has an unquoted >"),
    "here-document": (b"zz <<E\nA=1\nE\n", 1, "is not KEY="),
    "no key": (b"=x", 1, "is not KEY="),
    "; alone": (b"A=1;;", 1, "has a ; with nothing before it"),
    "single quote": (b"\nA='x\ny", 2, "has a ' that is not closed"),
    "double quote": (b'\nA="x\ny', 2, 'has a " that is not closed'),
    "backslash at the end": (b"A=x\\", 1, "ends with a backslash"),
    "carriage returns": (b"A=x\r\nB=y\r\n", 1, "has a carriage return; remove them with: tr -d '\\r'"),
    "byte order mark": (b"\xef\xbb\xbfA=x", 1, "begins with a byte order mark"),
    "NUL": (b"A=x\nB=\0y", 2, "has a NUL byte"),
    "variable of the shell": (b"IFS=,", 1, "sets IFS, which belongs to the shell"),
    "variable of one shell": (b"BASH_ENV=x", 1, "sets BASH_ENV, which belongs to the shell"),
    "long line": (b"z" * 500, 1, 'is not KEY="value": \'' + "z" * 37 + "...'"),
    "control character": (b'A=1\nA="\\\x7f"', 2, "has the control character '\\x7f'"),
    "section that is not closed": (b"[j1\n", 1, "begins a section that is not closed: '[j1'"),
    "section with more behind": (b"[j1] A=1\n", 1, "begins a section that is not closed"),
    "section of no name": (b"[]\n", 1, "has a section name that is no name or pattern of a jail or VM"),
    "section of a bad name": (
        b"[a/b]\n",
        1,
        "has a section name that is no name or pattern of a jail or VM (* and ?): 'a/b'",
    ),
    "C1 control character": (b"zz\xc2\x9b2J", 1, "is not KEY=\"value\": 'zz\\x9b2J'"),
    "section with a control character": (b"[\xc2\x9b]\n", 1, "(* and ?): '\\x9b'"),
    "section that no name can match": (b"[-x]\n", 1, "has a section name that is no name or pattern"),
}


@pytest.mark.parametrize("form", _TOLD)
def test_fault_96_refused_with_its_line(form: str) -> None:
    """Nothing of it is run, and each is told with its line."""
    content, line, text = _TOLD[form]
    _, reading = _read(content)
    assert [problem[0] for problem in reading.problems][:1] == [line]
    assert text in reading.problems[0][1]


def test_all_mistakes_are_told_and_the_rest_is_read() -> None:
    reading = shell.read("A=$(x)\nB=1\nC=~\nD=2\nzz\n[j*\nE=3")
    assert [line for line, _ in reading.problems] == [1, 3, 5, 6]
    assert [assignment.key for assignment in reading.assignments] == ["B", "D", "E"]


def test_a_mistake_is_told_once_and_not_again_where_it_is_used() -> None:
    reading = shell.read("A=$(x)\nB=$A/y\nC=$A$Z\n")
    assert [(line, text[:9]) for line, text in reading.problems] == [(1, "has a com"), (3, "has $Z, w")]


def test_nothing_is_kept_of_a_statement_that_could_not_be_read() -> None:
    assert shell.read("A=1 B=$(x)").assignments == []


def test_sections() -> None:
    """A key that is used is looked up in its section first, then above all sections; nowhere else."""
    text = "A=1\nB=$A\n  [j*]  # some\nA=2\nB=$A\n[k]\nB=$A\n[j*]\nC=$B\n"
    reading = shell.read(text)
    assert reading.problems == []
    found = [(one.section, one.key, one.value, one.line) for one in reading.assignments]
    assert found == [
        (None, "A", "1", 1),
        (None, "B", "1", 2),
        ("j*", "A", "2", 4),
        ("j*", "B", "2", 5),
        ("k", "B", "1", 7),
        ("j*", "C", "2", 9),
    ]
    assert shell.read("[j]\nA=1\n[k]\nB=$A").problems == [
        (4, "has $A, which is not set above it; the caller's variables are not used")
    ]


def test_fault_96_nothing_is_executed(tmp_path: Path) -> None:
    """The very same file, given to sh(1) as CBSD's sample does, runs it."""
    canary = tmp_path / "canary"
    for line in (f"A=$(>{canary})", f"A=`>{canary}`", f'A="$(>{canary})"', f"A=1; >{canary}", f"A=1 >{canary}"):
        reading = shell.read(line + "\n")
        assert reading.problems, line
        assert not canary.exists()
        subprocess.run(["/bin/sh", "-c", line], check=True)
        assert canary.exists(), line
        canary.unlink()


def test_values_do_not_fill_the_memory() -> None:
    reading = shell.read("A=x\n" + "A=$A$A\n" * 60)
    assert reading.problems[0] == (21, "has $A, with which the values become larger than 1048576 bytes")


def test_long_files_take_linear_time() -> None:
    """A megabyte is the most that is read; what is odd about it must not cost minutes."""
    for text in ("\n" * 300_000, "A=1;" * 20_000, "# \n" * 100_000, "A='" + "x" * 300_000 + "'", ";\n" * 20_000):
        began = time.process_time()
        shell.read(text)
        assert time.process_time() - began < 3, text[:8]
