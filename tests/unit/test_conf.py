# SPDX-License-Identifier: Apache-2.0
"""The options."""

import pytest
from oslo_config import cfg

from ibhostdev import conf, errors
from ibhostdev.networks import parse_mappings


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


@pytest.mark.parametrize("value", ["default", "default:", ":ib0", "a b:ib0"])
def test_what_is_no_mapping_is_refused(tmp_path, value):
    options = parse(tmp_path, f"physical_device_mappings = {value}")
    with pytest.raises(errors.InvalidInput, match="NETWORK:DEVICE"):
        networks(options)


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
