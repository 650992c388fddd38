"""The profile has the size and the shape that it says, and runtimes understand it."""

from __future__ import annotations

import pytest

from bench.seccomp_profile import DENIED, known_to_libseccomp, make_profile, syscall_names


def test_it_is_of_dockers_size() -> None:
    names = syscall_names()
    assert 330 <= len(names) <= 380
    assert names == sorted(set(names))
    assert not DENIED & set(names)


def test_the_calls_exist() -> None:
    try:
        known = known_to_libseccomp()
    except OSError:
        pytest.skip("needs libseccomp's shared library")
    # An older library may lack some; none of its own is neither allowed nor denied.
    assert len(known & set(syscall_names())) > 300
    assert {"mount", "clone3", "personality"} <= known


def test_variants_are_different_profiles_of_one_size() -> None:
    one, other = make_profile("x86_64", 1), make_profile("x86_64", 2)
    assert one != other
    assert len(one["syscalls"]) == len(other["syscalls"])
    assert make_profile("x86_64", 1) == one


def test_an_unknown_processor_has_no_other_instruction_sets() -> None:
    assert make_profile("riscv64")["architectures"] == []
