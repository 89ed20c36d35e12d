# SPDX-License-Identifier: Apache-2.0
"""The options."""

import pytest
from oslo_config import cfg

from ibhostdev import errors
from ibhostdev.host.networks import parse_mappings
from ibhostdev.privilege import conf


def parse(tmp_path, *lines):
    file = tmp_path / "service.conf"
    file.write_text("\n".join(["[ibhostdev]", *lines, ""]))
    config = cfg.ConfigOpts()
    conf.register_opts(config)
    config([], default_config_files=[str(file)])
    return config.ibhostdev


def networks(options):
    return parse_mappings(options.physical_device_mappings)


def test_no_mapping_is_needed(tmp_path):
    assert networks(parse(tmp_path)) == {}
    assert networks(parse(tmp_path, "physical_device_mappings =")) == {}


@pytest.mark.parametrize(
    "value",
    [
        "default:ib0,default:ib1,storage:0000:3b:00.0",
        " default:ib0 , default : ib1,storage:0000:3b:00.0 ",
        # As in the eswitchd.conf that networking-mlnx brings.
        "'default:ib0,default:ib1,storage:0000:3b:00.0'",
    ],
)
def test_mappings_are_read_as_eswitchd_takes_them(tmp_path, value):
    options = parse(tmp_path, f"physical_device_mappings = {value}")
    assert networks(options) == {
        "default": ("ib0", "ib1"),
        "storage": ("0000:3b:00.0",),
    }


@pytest.mark.parametrize(
    "value",
    ["default", "default:", ":ib0", "a b:ib0", "a:ib0,b"],
)
def test_what_is_no_mapping_is_refused(tmp_path, value):
    options = parse(tmp_path, f"physical_device_mappings = {value}")
    with pytest.raises(errors.InvalidInput, match="NETWORK:DEVICE") as caught:
        networks(options)
    assert caught.value.errno is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("'default:ib0'", {"default": ("ib0",)}),
        ('"a:ib0", "b:ib1"', {"a": ("ib0",), "b": ("ib1",)}),
        ("'a:ib0,b:ib1'", {"a": ("ib0",), "b": ("ib1",)}),
        ("' a:ib0, b:ib1 ' # it's", {"a": ("ib0",), "b": ("ib1",)}),
        ("a:ib0\n b : ib1 # all, c:ib2\n", {"a": ("ib0",), "b": ("ib1",)}),
        ("a:ib0 # or 'b'\nb:ib1", {"a": ("ib0",), "b": ("ib1",)}),
        ("a:pci_0000_3b_00_0", {"a": ("pci_0000_3b_00_0",)}),
        ("Ω:mlx5_0 Ω:3B:00.0", {"Ω": ("mlx5_0", "3B:00.0")}),
    ],
)
def test_a_mapping_may_be_written_in_several_ways(text, found):
    assert parse_mappings([text]) == found


@pytest.mark.parametrize(
    "text",
    ["'a:ib0", 'a:ib0"', "a'b:ib0", "'a:ib0\"", "a:ib0'b:ib1", "'a:ib0'b:ib1",
     "a:ib0 'b:ib1", "'a:ib0\n'b:ib1'", "'", "a:'ib0'", "'a':ib0",
     "'a:ib0 # '"],
)  # fmt: skip
def test_a_quote_alone_is_refused(text):
    """To eswitchd it is a part of the name."""
    with pytest.raises(errors.InvalidInput, match="none of a pair") as caught:
        parse_mappings([text])
    assert "or none" in caught.value.cure


def test_quotes_around_each_are_alone_as_oslo_reads_them(tmp_path):
    """Of those around the whole value it takes a pair away."""
    options = parse(tmp_path, "physical_device_mappings = 'a:ib0','b:ib1'")
    with pytest.raises(errors.InvalidInput, match="a:ib0'"):
        networks(options)
    options = parse(tmp_path, "physical_device_mappings = 'a:ib0,b:ib1'")
    assert networks(options) == {"a": ("ib0",), "b": ("ib1",)}


@pytest.mark.parametrize("text", ["a:autoib", "'default:autoeth'"])
def test_what_eswitchd_finds_for_itself_has_to_be_named(text):
    with pytest.raises(errors.InvalidInput, match="eswitchd's word") as caught:
        parse_mappings([text])
    assert "name the device" in caught.value.cure
    assert caught.value.errno is None


@pytest.mark.parametrize(
    "text",
    ["-h:ib0", "a[0]:ib0", "a;b:ib0", "a(b):ib0", "a\x1b:ib0", "a:-x",
     "a:../ib0", "a:b:c", "a:ib0;reboot", "a:ib0#b"],
)  # fmt: skip
def test_what_is_no_name_is_refused(text):
    with pytest.raises(errors.InvalidInput, match="is no name of") as caught:
        parse_mappings([text])
    assert caught.value.errno is None


@pytest.mark.parametrize("text", ["a:ib\0", "a:\udc80"])
def test_what_no_text_can_be_is_refused(text):
    with pytest.raises(errors.InvalidInput, match="is no name"):
        parse_mappings([text])


@pytest.mark.parametrize("value", ["0", "3601", "soon"])
def test_a_time_limit_has_limits(tmp_path, value):
    options = parse(tmp_path, f"privileged_call_timeout = {value}")
    with pytest.raises(ValueError, match="privileged_call_timeout"):
        _ = options.privileged_call_timeout


def test_every_option_is_explained():
    for _, options in conf.list_opts():
        for option in options:
            assert option.help, option.name
            assert "-" not in option.name
