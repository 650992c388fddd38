"""ocirt.seccomp_program: any verdicts of any architectures, and distances that no short jump reaches."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ocirt.seccomp_program import Architecture, Rule, Verdict, build_program
from ocirt.spec import SyscallArg
from tests.unit.seccomp_model import ERRNO, KILL_THREAD, X86, X86_64, simulate

AARCH64, S390X = 0xC00000B7, 0x80000016
DEFAULT, ENOSYS = ERRNO | 1, ERRNO | 38
TOKENS = (X86_64, X86, AARCH64)

actions = st.integers(0, 300).map(lambda data: ERRNO | data)
equal = st.integers(0, 3).map(lambda value: (SyscallArg(index=0, op="SCMP_CMP_EQ", value=value),))
rules = st.lists(st.builds(Rule, actions, equal), min_size=1, max_size=4).map(tuple)
verdicts = st.dictionaries(st.integers(0, 600), actions | rules, max_size=250)
architectures = st.dictionaries(st.sampled_from(TOKENS), st.builds(Architecture, verdicts, st.just(600) | st.none()))


def expected(architecture: Architecture | None, number: int, value: int) -> int:
    if architecture is None:
        return KILL_THREAD
    if architecture.newest is not None and number > architecture.newest:
        return ENOSYS
    verdict = architecture.verdicts.get(number, DEFAULT)
    if isinstance(verdict, int):
        return verdict
    return next((rule.action for rule in verdict if rule.conditions[0].value == value), DEFAULT)


@settings(max_examples=40, deadline=None)
@given(architectures, st.lists(st.integers(0, 5), min_size=1, max_size=3))
def test_every_number_gets_its_verdict(tables: dict[int, Architecture], values: list[int]) -> None:
    program = build_program(DEFAULT, tables)
    for token in TOKENS:
        numbers = {at + step for at in (0, 600, *tables.get(token, Architecture({}, None)).verdicts) for step in (0, 1)}
        for number in numbers:
            for value in values:
                decided = simulate(program, token, number, (value, 0, 0, 0, 0, 0))
                assert decided == expected(tables.get(token), number, value), (hex(token), number)


def test_verdicts_too_far_for_a_short_jump() -> None:
    table: dict[int, Verdict] = {number: ERRNO | number % 997 for number in range(2000)}
    program = build_program(DEFAULT, {X86_64: Architecture(table, None)})
    assert len(program) // 8 < 4200  # a comparison and a return each, and few long jumps
    for number in (0, 1, 996, 997, 1000, 1998, 1999):
        assert simulate(program, X86_64, number) == ERRNO | number % 997
    assert simulate(program, X86_64, 2000) == DEFAULT


def test_equal_neighbours_are_one_span() -> None:
    allowed = Architecture(dict.fromkeys(range(100, 400), 0x7FFF0000), None)
    assert len(build_program(DEFAULT, {AARCH64: allowed})) // 8 == 8


def test_large_numbers_of_s390x() -> None:
    """They come through number 0."""
    table = Architecture({1: 0x7FFF0000, 5: 0x7FFF0000}, 5)
    program = build_program(DEFAULT, {S390X: table})
    decided = [simulate(program, S390X, number) for number in range(7)]
    assert decided == [ENOSYS, 0x7FFF0000, DEFAULT, DEFAULT, DEFAULT, 0x7FFF0000, ENOSYS]
    silent = build_program(DEFAULT, {S390X: Architecture({5: 0x7FFF0000}, None)})
    assert simulate(silent, S390X, 0) == DEFAULT
