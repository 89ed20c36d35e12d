/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two callers on one host, as two processes are: their operations one by one
 * in turns of every length.
 */
#ifndef PAIRS_H
#define PAIRS_H

#include "judge.h"

/* All of them; adds to *runs. Gives the number that failed, of which the
 * first few are printed. */
unsigned long pairs_all(struct scripted *system, bool thorough,
			unsigned long *runs);
/* One, "pair:SETTING:FIRST:SECOND:HANDOVER:PAIR", with all that it does. */
int pairs_only(struct scripted *system, const char *text);

#endif
