# SPDX-License-Identifier: Apache-2.0
"""What any program needs: a log, threads, signals, standard descriptors."""
