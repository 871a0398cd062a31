"""Read a file of assignments as sh(1) would, without running anything. Pure.

Read is the subset that a configuration needs: ``KEY=word`` with both kinds of quotes, backslashes, ``export``, ``;``,
comments, continued lines and the value of a key that is set further up. Everything else that sh(1) knows (commands,
substitutions, arithmetic, ``~``) is a problem with its line, never a guess, and so is what shells disagree about.
ConfigObj cannot be the reader here: it drops what follows ``#`` inside a word, makes a list of ``a,b`` and one value
of ``A=1; B=2``.

Beyond sh(1), a line ``[pattern]`` begins a section, which lasts until the next one.
"""

from typing import NamedTuple

from envstart.environment import DIGITS, LETTERS

_BLANK = " \t"
_END = "\n;"
_KEY_FIRST = frozenset(LETTERS + "_")
_KEY = _KEY_FIRST | frozenset(DIGITS)
_PATTERN = _KEY | frozenset("@%:-*?")
# No value needs them, and bash(1) loses some of them between quotes.
_CONTROLS = "".join(chr(code) for code in (*range(32), 127) if chr(code) not in "\t\n")
_NAMED_CONTROLS = {"\r": "a carriage return; remove them with: tr -d '\\r'", "\0": "a NUL byte"}
# Names that one shell or another sets, changes or protects itself, so that it need not keep what is assigned.
_SHELLS_OWN = frozenset(
    "_ DIRSTACK EPOCHREALTIME EPOCHSECONDS EUID FUNCNAME GROUPS HISTCMD IFS LINENO OPTIND PPID RANDOM SECONDS "
    "SHELLOPTS SRANDOM UID".split()
)
# Forty lines of A=$A$A would fill the memory.
_GROWN_MAX = 1 << 20
# What a shell that splits the words of export, or looks for files in them, would not keep together.
_SPLITS = frozenset(" \t\n*?[\\")


class ShellSyntaxError(Exception):
    """A statement that cannot be read; its line is where it begins."""


class Assignment(NamedTuple):
    """``key=value`` on ``line`` (from 1), inside ``[section]`` or above all of them (None)."""

    section: str | None
    key: str
    value: str
    line: int


class Reading:
    """The outcome: what was assigned, and what could not be read.

    ``problems`` are (line, text), ``used`` the keys read by ``$KEY``, ``broken`` those that a problem kept from being
    set, each with its section in ``unset``. ``torn``: assignments can have moved into another section, or be lost.
    """

    __slots__ = ("assignments", "problems", "used", "broken", "unset", "torn")

    def __init__(self) -> None:
        """Begin with nothing."""
        self.assignments: list[Assignment] = []
        self.problems: list[tuple[int, str]] = []
        self.used: set[str] = set()
        self.broken: set[str] = set()
        self.unset: set[tuple[str | None, str]] = set()
        self.torn = False


def read(text: str) -> Reading:
    """Read the whole text; after a problem the reader goes on with the next line, so that all are told at once."""
    reading = Reading()
    if text.startswith("\ufeff"):
        reading.problems.append((1, "begins with a byte order mark; save the file as plain UTF-8"))
        text = text[1:]
    for character in _CONTROLS:
        if character in text:
            line = text.count("\n", 0, text.index(character)) + 1
            what = _NAMED_CONTROLS.get(character, f"the control character {character!r}")
            reading.problems.append((line, f"has {what}"))
            text = text.replace(character, "")
    scanner = _Scanner(text, reading)
    while scanner.more():
        scanner.statement()
    return reading


class _Scanner:
    def __init__(self, text: str, reading: Reading) -> None:
        self._text = text
        self._at = 0
        self._line = 1
        self._counted = 0
        self._grown = 0
        self._begun: list[str] = []
        self._reading = reading
        self._section: str | None = None
        self._values: dict[str | None, dict[str, str]] = {None: {}}

    def more(self) -> bool:
        return self._at < len(self._text)

    def statement(self) -> None:
        """Read one statement up to its newline or ``;``, or the rest of a line that cannot be read."""
        self._skip_blank()
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted, line = self._at, self._line
        begin = self._at
        self._begun = []
        try:
            if self._peek() == "#":
                self._to_end_of_line()
            elif self._peek() == "[" and self._peek(1) not in _BLANK and self._line_begins():
                self._section_header()
            elif self._peek() == ";":
                raise ShellSyntaxError("has a ; with nothing before it")
            elif self.more() and self._peek() not in _END:
                self._assignments(line)
            self._at += 1
        except ShellSyntaxError as problem:
            self._reading.problems.append((line, str(problem)))
            self._reading.broken.update(self._begun)
            self._reading.unset.update((self._section, key) for key in self._begun)
            self._reading.torn |= self._text.startswith("[", begin) or "\n" in self._text[begin : self._at]
            for key in self._begun:
                # So that who uses it is not blamed too.
                self._values[self._section].setdefault(key, "")
            self._to_end_of_line()

    def _line_begins(self) -> bool:
        before = self._text.rfind("\n", 0, self._at) + 1
        return not self._text[before : self._at].strip(_BLANK)

    def _section_header(self) -> None:
        line = self._rest_of_line()
        name, bracket, rest = line[1:].partition("]")
        if not bracket or (rest.strip(_BLANK) and not rest.lstrip(_BLANK).startswith("#")):
            raise ShellSyntaxError(f"begins a section that is not closed: {shorten(line.strip(_BLANK))!r}")
        if not name or name[0] == "-" or not _PATTERN.issuperset(name):
            raise ShellSyntaxError(
                f"has a section name that is no name or pattern of a jail or VM (* and ?): {shorten(name)!r}"
            )
        self._section = name
        self._values.setdefault(name, {})
        self._to_end_of_line()

    def _assignments(self, line: int) -> None:
        """``[export] K=v [K=v ...]``: kept only when the whole statement could be read."""
        assignments: list[Assignment] = []
        exported = False
        while self.more() and self._peek() not in _END and self._peek() != "#":
            key = self._name()
            if not assignments and not exported and key == "export" and self._peek() in _BLANK:
                exported = True
            elif key and self._peek() == "=":
                if key in _SHELLS_OWN or key.startswith("BASH"):
                    raise ShellSyntaxError(f"sets {key}, which belongs to the shell")
                self._at += 1
                self._begun.append(key)
                assignments.append(Assignment(self._section, key, self._word(key, exported=exported), line))
            elif not (exported and key and (not self.more() or self._peek() in _BLANK + _END)):
                self._begun.append(key)
                raise ShellSyntaxError(f'is not KEY="value": {shorten(key + self._rest_of_line())!r}')
            self._skip_blank()
        if self._peek() == "#":
            self._to_end_of_line()
        self._reading.assignments += assignments
        self._values[self._section].update((assignment.key, assignment.value) for assignment in assignments)

    def _name(self) -> str:
        begin = self._at
        if self._peek() in _KEY_FIRST:
            while self._peek() in _KEY:
                self._at += 1
        return self._text[begin : self._at]

    def _word(self, key: str, *, exported: bool) -> str:
        """Read the value: what is left of a word after the removal of quotes, byte for byte."""
        value: list[str] = []
        while self.more():
            character = self._peek()
            if character in _BLANK or character in _END:
                break
            if character == "'":
                value.append(self._single_quoted())
            elif character == '"':
                value.append(self._double_quoted())
            elif character == "\\":
                value.append(self._escaped())
            elif character in "$`":
                value.append(self._expansion(quoted=False))
                if exported and not _SPLITS.isdisjoint(value[-1]):
                    raise ShellSyntaxError(
                        f"{key} has an unquoted $, which some shells split; put the value between quotes"
                    )
            elif character in "&|<>()" or (exported and character in "*?[{"):
                raise ShellSyntaxError(f"{key} has an unquoted {character}; put the value between quotes")
            elif character == "~" and "".join(value)[-1:] in ("", ":", "="):
                raise ShellSyntaxError(f"{key} has an unquoted ~; write the directory out")
            else:
                value.append(character)
                self._at += 1
        return "".join(value)

    def _single_quoted(self) -> str:
        end = self._text.find("'", self._at + 1)
        if end < 0:
            self._at = len(self._text)
            raise ShellSyntaxError("has a ' that is not closed")
        value = self._text[self._at + 1 : end]
        self._at = end + 1
        return value

    def _double_quoted(self) -> str:
        value: list[str] = []
        self._at += 1
        while self.more():
            character = self._peek()
            if character == '"':
                self._at += 1
                return "".join(value)
            if character == "\\" and self._peek(1) in ('"', "\\", "$", "`", "\n"):
                value.append(self._escaped())
            elif character in "$`":
                value.append(self._expansion(quoted=True))
            else:
                value.append(character)
                self._at += 1
        raise ShellSyntaxError('has a " that is not closed')

    def _escaped(self) -> str:
        character = self._peek(1)
        if not character:
            raise ShellSyntaxError("ends with a backslash")
        self._at += 2
        return "" if character == "\n" else character

    def _expansion(self, *, quoted: bool) -> str:
        """Expand ``$KEY`` of a key set above; the caller's variables are never used (docs/cbsd.md#defects, 15)."""
        following = self._peek(1)
        if self._peek() == "`" or following == "(":
            raise ShellSyntaxError("has a command substitution, which is never run; write the value itself")
        braced = following == "{"
        if not braced and following not in _KEY_FIRST:
            if following in _KEY or (following and following in "@*#?-$![") or (not quoted and following in ("'", '"')):
                raise ShellSyntaxError(f"has ${following}, which only a shell can know; write the value itself")
            self._at += 1
            self._refuse_continued("$")
            return "$"
        self._at += 2 if braced else 1
        key = self._name()
        if braced:
            if not key or self._peek() != "}":
                raise ShellSyntaxError("has a ${...} that is more than the name of a key; write the value itself")
            self._at += 1
        else:
            self._refuse_continued(f"${key}")
        self._reading.used.add(key)
        if key in self._begun[:-1]:
            raise ShellSyntaxError(f"has ${key}, which is set in the same command; give it a line of its own")
        for section in (self._section, None):
            if key in self._values[section]:
                value = self._values[section][key]
                self._grown += len(value)
                if self._grown > _GROWN_MAX:
                    raise ShellSyntaxError(f"has ${key}, with which the values become larger than {_GROWN_MAX} bytes")
                return value
        raise ShellSyntaxError(f"has ${key}, which is not set above it; the caller's variables are not used")

    def _refuse_continued(self, what: str) -> None:
        # dash(1) and bash(1) join the lines before they look for the name, FreeBSD's sh(1) looks first.
        if self._peek() == "\\" and self._peek(1) == "\n":
            raise ShellSyntaxError(f"has {what} at the end of a line that is continued, which shells read differently")

    def _peek(self, ahead: int = 0) -> str:
        return self._text[self._at + ahead : self._at + ahead + 1]

    def _skip_blank(self) -> None:
        while self.more():
            if self._peek() in _BLANK:
                self._at += 1
            elif self._peek() == "\\" and self._peek(1) == "\n":
                self._at += 2
            else:
                break

    def _to_end_of_line(self) -> None:
        self._at += len(self._rest_of_line())

    def _rest_of_line(self) -> str:
        end = self._text.find("\n", self._at)
        return self._text[self._at : end if end >= 0 else len(self._text)]


def shorten(text: str) -> str:
    """Return at most 40 characters of a text, for a message."""
    return text if len(text) <= 40 else text[:37] + "..."
