"""Which names of two tools mean the same kernel."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzers.counters.kernel_names import bare, normalised, same_kernels, without_parameters

# Names.


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("void k<(int)4>(float *)", "void k<4>(float*)"),
        ("k<(unsigned long)3, (bool)1>(int)", "k<3ul, true>(int)"),
        ("a::<unnamed>::k(int)", "a::(anonymous namespace)::k(int)"),
        ("k<f<int> >(int)", "k<f<int>>(int)"),
        ("k<[lambda(int) (instance 2)]>(T1)", "void k<{lambda(int)#2}>(T1)"),
        ("k<(ns::Mode)-1>(int)", "k<-1>(int)"),
    ],
)
def test_tools_that_spell_one_name_differently_agree(one, other):
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("k<4>(float *)", "k<8>(float *)"),
        ("k<f2>(int)", "k<f3>(int)"),
        ("k<true>(int)", "k<false>(int)"),
        ("a::k(int)", "b::k(int)"),
        ("k<unsigned int>(int)", "k<int>(int)"),
    ],
)
def test_names_that_mean_different_kernels_stay_apart(one, other):
    ours, theirs = same_kernels([one], [other])
    assert ours[0] != theirs[0]


def test_parameters_may_be_abbreviated_where_no_overload_could_be_meant():
    full = "void at::k<4, at::F<float>, std::array<char*, 3ul> >(int, at::F<float>)"
    short = "void at::k<(int)4, at::F<float>, std::array<char *, (unsigned long)3>>(int, T2)"
    ours, theirs = same_kernels([full], [short])
    assert ours[0] == theirs[0]
    ours, theirs = same_kernels(["k(float*)", "k(double*)"], ["k(T1)"])
    assert theirs[0] not in ours


def test_a_return_type_and_const_do_not_part_kernels():
    one = "enable_if<!T7, void>::type kernel<int, P<const half>, (int)1>(T13)"
    other = "std::enable_if<!(false), void>::type kernel<int, P<half const>, 1>(P<half>)"
    ours, theirs = same_kernels([one], [other])
    assert ours[0] == theirs[0]
    assert without_parameters(normalised(one)) == "kernel<int,P<half>,1>"


def test_a_function_without_its_namespace_stands_for_the_only_one_of_that_name():
    ours, theirs = same_kernels(["void ns::march<float>(float*)"], ["march"])
    assert ours[0] == theirs[0]
    ours, theirs = same_kernels(["void a::march<1>(int)", "void a::march<2>(int)"], ["march"])
    assert theirs[0] not in ours
    assert bare("ns::march<a::b>(float*)") == "march"


def test_a_kernel_without_a_name_is_no_kernel_of_the_other_side():
    ours, theirs = same_kernels([""], [""])
    assert ours[0] != theirs[0]


SIMILAR = ["k(int)", "k<1>(T1)", "k<2>(T1)", "a::k<1>(int)", "k", "f(int)", "f"]


@given(st.lists(st.sampled_from(SIMILAR)))
def test_no_name_of_one_side_is_matched_with_two_of_the_other(names):
    ours, theirs = sorted(set(names[::2])), sorted(set(names[1::2]))
    codes = same_kernels(ours, theirs)
    assert len(set(codes[0])) == len(ours)
    assert len(set(codes[1])) == len(theirs)
