# SPDX-License-Identifier: Apache-2.0
"""The host as it is to be: which VFs its PFs have, on which drivers, with
which identities. ``reading`` reads the file that says so, ``apply`` makes it
so, ``saving`` writes the file from what is there.
"""
