# SPDX-License-Identifier: Apache-2.0
# For the fingers only; ./dev does the work and needs no make.

all: setup

setup demo test lint fresh-test release package-test kernel-test ansible-test nova-test neutron-test mutants bench clean:
	@./dev $@

.PHONY: all setup demo test lint fresh-test release package-test kernel-test ansible-test nova-test neutron-test mutants bench clean
