# SPDX-License-Identifier: Apache-2.0
"""The native sysfs floor over ordinary files, and over the real /sys."""

import errno
import os
import threading

import pytest

from ibhostdev._native.sysfs import Tree


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "a").write_bytes(b"value\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/target")
    return Tree(tmp_path)


def test_a_batch_gives_a_value_or_an_errno_for_each(tree, tmp_path):
    (tmp_path / "empty").touch()
    assert tree.read(["a", "missing", "folder", "empty"]) == [
        b"value", errno.ENOENT, errno.EISDIR, b"",
    ]  # fmt: skip
    assert tree.readlink(["link", "a", "missing"]) == [
        "folder/target", errno.EINVAL, errno.ENOENT,
    ]  # fmt: skip
    assert tree.read([]) == tree.readlink([]) == tree.write([]) == []
    assert tree.listdir([".", "folder", "missing", "a"]) == [
        ["a", "empty", "folder", "link"], [], errno.ENOENT, errno.ENOTDIR,
    ]  # fmt: skip


def test_a_directory_of_many(tree, tmp_path):
    """More than one system call gives."""
    names = sorted(f"{n:04}-{'x' * 40}" for n in range(2000))
    for name in names:
        (tmp_path / "folder" / name).touch()
    assert tree.listdir(["folder"]) == [names]


def test_what_is_longer_than_a_page_is_no_attribute(tree, tmp_path):
    (tmp_path / "page").write_bytes(b"x" * 4096)
    (tmp_path / "long").write_bytes(b"x" * 4097)
    assert tree.read(["page", "long"]) == [b"x" * 4096, errno.EMSGSIZE]


def test_a_value_is_written_whole_at_the_start(tree, tmp_path):
    assert tree.write([("a", b"new")]) == [0]
    assert (tmp_path / "a").read_bytes() == b"newue\n"


def test_a_write_never_makes_a_file(tree, tmp_path):
    assert tree.write([("missing", b"1")]) == [errno.ENOENT]
    assert not (tmp_path / "missing").exists()


def test_a_batch_of_writes_stops_only_when_told(tree, tmp_path):
    items = [("missing", b"1"), ("a", b"VALUE")]
    assert tree.write(items, stop=True) == [errno.ENOENT, -1]
    assert (tmp_path / "a").read_bytes() == b"value\n"
    assert tree.write(items) == [errno.ENOENT, 0]
    assert (tmp_path / "a").read_bytes() == b"VALUE\n"


def test_bad_arguments_are_refused(tree):
    with pytest.raises(ValueError, match="NUL"):
        tree.read(["a\0b"])
    with pytest.raises(TypeError):
        tree.write([("a", "text")])
    with pytest.raises(TypeError):
        tree.read([1])


def test_a_root_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        Tree(tmp_path / "nowhere")
    assert os.fsdecode(caught.value.filename) == str(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        Tree(tmp_path / "file")


def test_the_real_sys():
    tree = Tree()
    assert tree.read(["class/net/lo/ifindex"]) == [b"1"]
    assert "lo" in tree.listdir(["class/net"])[0]
    assert "lo" in tree.readlink(["class/net/lo"])[0]


@pytest.mark.usefixtures("tree", "nothing_left_open")
def test_nothing_is_left_open(tree):
    for _ in range(50):
        tree.read(["a", "missing"] * 10)
        tree.listdir(["folder", "missing", "a"])
        tree.write([("a", b"x"), ("missing", b"x")])
        Tree(tree.path)


def test_threads_share_a_tree(tree, tmp_path):
    for number in range(8):
        (tmp_path / f"n{number}").write_bytes(b"%d\n" % number)
    wrong = []

    def work(number):
        for _ in range(200):
            if tree.read([f"n{number}"] * 4) != [b"%d" % number] * 4:
                wrong.append(number)
            tree.write([(f"n{number}", b"%d" % number)])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
