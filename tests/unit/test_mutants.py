# SPDX-License-Identifier: Apache-2.0
"""Where sources are made wrong, and that it is noticed when nobody minds."""

import subprocess

import pytest

from tests.mutants import __main__ as tool
from tests.mutants import c, cython, equal, python, scratch

PYTHON = b"""
def look(a, b):
    if a < 3 and not b:
        raise ValueError
    for one in a:
        if b:
            continue
        one.tell(a)
    return a is None
"""

C = b"""
#include <errno.h> /* if (a == b) */
static const int table[] = { 1, 2 };

static int look(struct one *a, int (*b)(void))
{
	const char *text = "a && b";
	char room[8 + 1], *at = &room[0];

	if (a->n < 3 && !b)
		return -EINVAL;
	while (b)
		a->tell(text); // a == b
	close(b);
	for (;;)
		continue;
out:
	return 0x10;
}
"""

CYTHON = b"""
from libc.string cimport memset

cdef class One:
    cdef int number

    def __init__(self, other, size):
        cdef int least = <int>size if size else 1
        if not other and least < <int>self.number:
            raise ValueError(
                "less",
            )
        if other:
            memset(&self.number, 0, sizeof(int))
        for one in other:
            if one is not None or one not in other:
                return

cdef int look(One one) except -1:
    return one.number >= 2
"""


def made(found):
    return [(site.what, *site.difference) for site in found]


def test_python():
    assert made(python.sites("look.py", PYTHON)) == [
        ("< turned", "- if a < 3 and not b:", "+ if a >= 3 and not b:"),
        ("or for and", "- if a < 3 and not b:", "+ if a < 3 or not b:"),
        ("not dropped", "- if a < 3 and not b:", "+ if a < 3 and b:"),
        ("raise dropped", "- raise ValueError", "+ pass"),
        ("not added", "- if b:", "+ if (not (b)):"),
        ("continue dropped", "- continue", "+ pass"),
        ("call dropped", "- one.tell(a)", "+ pass"),
        ("is turned", "- return a is None", "+ return a is not None"),
    ]


def test_c():
    head = "- if (a->n < 3 && !b)"
    assert made(c.sites("look.c", C)) == [
        (
            "constant off by one",
            "- char room[8 + 1], *at = &room[0];",
            "+ char room[8 + 1], *at = &room[1];",
        ),
        ("< turned", head, "+ if (a->n >= 3 && !b)"),
        ("constant off by one", head, "+ if (a->n < 4 && !b)"),
        ("|| for &&", head, "+ if (a->n < 3 || !b)"),
        ("! dropped", head, "+ if (a->n < 3 && b)"),
        ("return dropped", "- return -EINVAL;", "+ ;"),
        ("! added", "- while (b)", "+ while (!(b))"),
        (
            "call dropped",
            "- a->tell(text); // a == b",
            "+ ; // a == b",
        ),
        ("call dropped", "- close(b);", "+ ;"),
        ("continue dropped", "- continue;", "+ ;"),
        ("constant off by one", "- return 0x10;", "+ return 17;"),
    ]


def test_cython():
    head = "- if not other and least < <int>self.number:"
    loop = "- if one is not None or one not in other:"
    assert made(cython.sites("look.pyx", CYTHON)) == [
        (
            "constant off by one",
            "- cdef int least = <int>size if size else 1",
            "+ cdef int least = <int>size if size else 2",
        ),
        (
            "not dropped",
            head,
            "+ if  other and least < <int>self.number:",
        ),
        (
            "or for and",
            head,
            "+ if not other or least < <int>self.number:",
        ),
        (
            "< turned",
            head,
            "+ if not other and least >= <int>self.number:",
        ),
        (
            "raise dropped",
            "- raise ValueError(",
            '- "less",',
            "- )",
            "+ pass",
        ),
        ("not added", "- if other:", "+ if not (other):"),
        ("call dropped", "- memset(&self.number, 0, sizeof(int))", "+ pass"),
        (
            "constant off by one",
            "- memset(&self.number, 0, sizeof(int))",
            "+ memset(&self.number, 1, sizeof(int))",
        ),
        (
            "is not turned",
            loop,
            "+ if one is None or one not in other:",
        ),
        (
            "and for or",
            loop,
            "+ if one is not None and one not in other:",
        ),
        (
            "not in turned",
            loop,
            "+ if one is not None or one in other:",
        ),
        ("return dropped", "- return", "+ pass"),
        (
            ">= turned",
            "- return one.number >= 2",
            "+ return one.number < 2",
        ),
        (
            "constant off by one",
            "- return one.number >= 2",
            "+ return one.number >= 3",
        ),
    ]


def test_where_it_is():
    site = python.sites("look.py", PYTHON)[3]
    assert str(site) == "look.py:4 look: raise dropped"
    assert c.sites("look.c", C)[0].within == "look"
    within = [site.within for site in cython.sites("look.pyx", CYTHON)]
    assert set(within[:-2]) == {"One.__init__"}
    assert set(within[-2:]) == {"look"}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A project whose tests hold one half of what it does."""
    (tmp_path / "ibhostdev").mkdir()
    (tmp_path / "look.py").write_text(
        "def one():\n    raise TypeError\ndef two():\n    raise TypeError\n"
    )
    for name in ("site", "order"):
        target = tmp_path / f"tests/mutants/{name}.py"
        target.parent.mkdir(parents=True, exist_ok=True)
        source = scratch.REPO / f"tests/mutants/{name}.py"
        target.write_text(source.read_text())
    (tmp_path / "test_look.py").write_text(
        "import pytest\nfrom look import one\n"
        "def test_one():\n    pytest.raises(TypeError, one)\n"
    )
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    for module in (scratch, tool):
        monkeypatch.setattr(module, "REPO", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys, *arguments):
    code = tool.main(["--tests", "test_look.py", *arguments])
    return code, capsys.readouterr()


def test_what_lives_is_told(tree, capsys):
    code, said = run(capsys, "look.py")
    assert code == 1
    assert "killed look.py:2 one: raise dropped by test_look" in said.out
    assert "LIVES  look.py:4 two: raise dropped" in said.out
    assert "look.py:4\nlook.py two\n- raise TypeError\n+ pass\n" in said.out
    known = tree / "equal.txt"
    known.write_text(
        "look.py two\n- raise TypeError\n+ pass\nNobody calls it.\n"
    )
    code, said = run(capsys, "look.py", "--equal", str(known))
    assert code == 0
    assert "1 mutants, 0 alive; besides, 1 equal" in said.out


def test_tests_that_fail_anyway(tree, capsys):
    (tree / "test_look.py").write_text("def test(): assert False\n")
    code, said = run(capsys, "look.py")
    assert code == 2
    assert "without any mutant test_look.py::test fails" in said.err


def test_a_sample_is_the_same_each_time(tree, capsys):
    (tree / "look.py").write_bytes(PYTHON)
    told = [
        run(capsys, "look.py", "--list", "--sample", "3", "--seed", seed)
        for seed in ("4", "4", "5")
    ]
    assert told[0] == told[1] != told[2]
    assert "3 places" in told[0][1].out


def test_it_goes_on_where_it_ended(tree, capsys):
    code, said = run(capsys, "look.py", "--minutes", "0")
    assert code == 0
    assert "0 mutants, 0 alive" in said.out
    assert "--from 1" in said.out
    code, said = run(capsys, "look.py", "--from", "2")
    assert code == 1
    assert "one: raise" not in said.out
    assert "   2 LIVES  look.py:4 two: raise dropped" in said.out


def test_what_is_equal_is_there():
    known = equal.read(scratch.REPO / "tests/mutants/equal.txt")
    names = {equal.name(site) for site in tool.find(tool.ENGINE)}
    assert set(known) <= names


@pytest.mark.parametrize("text", ["look.py look\n", "a b\n- c\nd\n+ e\n"])
def test_a_list_that_says_nothing(tmp_path, text):
    (tmp_path / "equal.txt").write_text(text)
    with pytest.raises(ValueError, match="no mutant with its reason"):
        equal.read(tmp_path / "equal.txt")
