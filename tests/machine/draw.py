"""Histories drawn by hypothesis: which acts there are, and how often each comes."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st

from .history import FAULTS, KILLS, SERVER_STATES, SIGNALS, VERBS, Act, play
from .scene import KINDS, NAMES

LONGEST = 10
# The Nth command of a hook; the longest runs about so many.
_NTH = st.integers(1, 14)
_VERB, _NAME = st.sampled_from(VERBS), st.sampled_from(NAMES)
# What waits for a time-out costs seconds, and comes seldom.
_QUICK_FAULTS = [fault for fault in FAULTS if fault in ("fail", "say-ok-do-nothing", "do-it-say-fail", "slow", "torn")]


def _act(name: str, *arguments: Any) -> st.SearchStrategy[Act]:
    return st.tuples(st.just(name), *arguments)


_COMMON = [
    _act("start", _NAME),
    _act("start", _NAME),
    _act("stop", _NAME),
    _act("kill", _VERB, _NAME, st.sampled_from(KILLS), _NTH),
    _act("kill", _VERB, _NAME, st.sampled_from(KILLS), _NTH),
    _act("fault", _VERB, _NAME, st.sampled_from(_QUICK_FAULTS), _NTH),
    _act("fault", _VERB, _NAME, st.sampled_from(_QUICK_FAULTS), _NTH),
    _act("signal", _VERB, _NAME, st.sampled_from(SIGNALS), _NTH),
    _act("both", _VERB, _NAME, _VERB, _NAME),
    _act("check", _NAME),
    st.one_of(
        _act("recover", _NAME),
        _act("jcleanup", _NAME),
        _act("clock", st.sampled_from((-86400.0, -5.0, 5.0, 86400.0))),
        _act("reboot"),
    ),
    st.one_of(_act("hold", _NAME), _act("release", _NAME), _act("run", _NAME), _act("halt", _NAME)),
    st.one_of(_act("foreign", _NAME), _act("native", _NAME), _act("full"), _act("space")),
]
_SLOW = st.one_of(
    _act("fault", _VERB, _NAME, st.sampled_from(FAULTS), _NTH),
    _act("server", st.sampled_from(SERVER_STATES)),
)
_SERVERS = [st.one_of(_SLOW, _act("back")), _act("back")]
_OWN: dict[str, list[st.SearchStrategy[Act]]] = {
    "nfs": [st.one_of(_act("unexport", _NAME), _act("export", _NAME), _act("stale", _NAME))],
    "gluster": [_act("crash", _NAME)],
    "ceph": [_act("crash", _NAME)],
    "iscsi": [_act("renumber")],
    "geli": [_act("renumber")],
}


def _acts(title: str) -> st.SearchStrategy[tuple[str, list[Act]]]:
    kind = next(kind for kind in KINDS if kind.title == title)
    backend = kind.variant.backend
    other = [_act("other", _VERB, _NAME)] * 3 if kind.two else []
    servers = [] if backend in ("nullfs", "geli") else _SERVERS
    one = st.one_of(*_COMMON, *servers, *_OWN.get(backend, []), *other)
    return st.tuples(st.just(title), st.lists(one, min_size=1, max_size=LONGEST))


def run(number: int, count: int, titles: list[str]) -> None:
    """Draw COUNT histories from the seed NUMBER and play them; one that breaks a promise is made as short as can be."""
    histories = st.sampled_from(titles).flatmap(_acts)

    @seed(number)
    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        print_blob=False,
        verbosity=Verbosity.quiet,
    )
    @given(histories)
    def test(history: tuple[str, list[Act]]) -> None:
        play(*history)

    test()
