// SPDX-License-Identifier: Apache-2.0
/*
 * A call on a scene's host; see judge.h.
 */
#include <stdio.h>

#include "judge.h"

void trial_clear(struct trial *trial)
{
	ibh_batch_free(trial->batch);
	ibh_error_free(trial->error);
	trial->batch = NULL;
	trial->error = NULL;
}

void trial_close(struct trial *trial)
{
	ibh_host_close(trial->host);
	trial->host = NULL;
}

void trial_run(struct trial *trial, unsigned int caller)
{
	struct scripted *system = trial->system;

	trial->start = system->machine;
	system->callers[caller].about = trial;
	trial->answer = -1;
	trial->batch = NULL;
	trial->error = NULL;
	if (!trial->host)
		trial->error = scripted_open(system, caller,
					     &trial->scene->options,
					     &trial->host);
	if (trial->error)
		trial->host = NULL;
	else
		trial->answer = scene_call(trial->scene, system, trial->host,
					   trial->states, &trial->batch,
					   &trial->error);
}

void trial_print(const struct trial *trial)
{
	char text[1024], address[IBH_PCI_TEXT + 1];
	unsigned int i;

	if (trial->error) {
		ibh_error_text(trial->error, text, sizeof(text));
		fprintf(stderr, "  error: %s\n", text);
	}
	for (i = 0; trial->batch && i < trial->batch->count; i++) {
		const struct ibh_result *result = &trial->batch->results[i];

		ibh_format_pci(result->pci, address);
		text[0] = '\0';
		if (result->error)
			ibh_error_text(result->error, text, sizeof(text));
		fprintf(stderr, "  VIF %u on %s:%s%s %s\n", i, address,
			result->changed ? " changed" : "",
			result->verified ? " verified" : "", text);
	}
	for (i = 0; trial->batch && i < trial->batch->warning_count; i++)
		fprintf(stderr, "  warning: %s\n", trial->batch->warnings[i]);
}
