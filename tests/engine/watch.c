// SPDX-License-Identifier: Apache-2.0
/*
 * What a batch may write, and what comes between; see judge.h.
 */
#include "judge.h"
#include "whose.h"

static bool may_have(const struct trial *trial, const struct command *command,
		     int vif)
{
	const struct scene *scene = trial->scene;
	const struct machine *start = &trial->start;
	unsigned int pf = command->pf, vf = command->vf;
	const struct vport *vport = &start->pfs[pf].vports[vf + 1];
	uint64_t was, own;

	/* Of a VF that a guest has, an identity that it is known to have lost
	 * may be given back, or that be undone. */
	if (!plugs_at(scene, vif) || !knows_guids(start, pf, vf))
		return false;
	own = command->kind == SET_VPORT && command->what == NODE ?
		      scene_node(scene, (unsigned int)vif) :
		      scene_guid((unsigned int)vif);
	switch (command->kind) {
	case SET_VPORT:
		was = command->what == NODE ? vport->node : vport->port;
		return command->what != POLICY && (idle(was) || was == own) &&
		       (command->value == own || command->value == was);
	case SET_ALIAS:
		was = start->pfs[pf].aliases[command->port - 1]
			      .admin[command->n];
		return (idle(was) || was == own) &&
		       (command->value == own || command->value == was);
	case SET_PKEY:
		return true;
	default:
		return false;
	}
}

/* What is adjusted has the VIF's identity, and keeps it. */
static bool may_adjust(const struct trial *trial,
		       const struct command *command, int vif)
{
	if (vif < 0 || !vif_has(trial->scene, (unsigned int)vif, &trial->start,
				command->pf, command->vf))
		return false;
	return command->kind == SET_PKEY ?
		       command->n == 0 :
		       command->kind == SET_VPORT &&
			       command->what == POLICY &&
			       command->value == DOWN;
}

void judge_command(struct scripted *system, struct caller *caller,
		   const struct command *command)
{
	const struct trial *trial = caller->about;
	const struct scene *scene = trial->scene;
	unsigned int pf = command->pf, vf = command->vf;
	int vif = vif_at(scene, pf, vf);
	int held = vif_on(scene, &trial->start, pf, vf);

	if (act_is_dry(scene->act))
		scripted_wrong(system, "writes though it is only to look");
	if (scene->act == LOWER) {
		if (!may_adjust(trial, command, vif))
			scripted_wrong(system, "writes to VF %u of PF %u what "
				       "is not to be adjusted", vf, pf);
		return;
	}
	if (command->port > FIRST && command->kind == SET_ALIAS)
		scripted_wrong(system, "writes to the other port");
	if (command->kind == BIND || command->kind == UNBIND) {
		if (command->driver != OWN || !act_unplugs(scene->act) ||
		    scene->act == UNPLUG_KEEP)
			scripted_wrong(system, "binds VF %u of PF %u", vf,
				       pf);
		if (system->machine.pfs[pf].vfs[vf].open)
			scripted_wrong(system, "unbinds a guest's VF");
		return;
	}
	if (trial->start.pfs[pf].vfs[vf].open && !may_have(trial, command, vif))
		scripted_wrong(system, "writes to VF %u of PF %u, which a "
			       "guest has", vf, pf);
	if (held >= 0 && !on_fabric(scene, (unsigned int)held, pf))
		held = -1;
	if (held < 0 && !plugs_at(scene, vif))
		scripted_wrong(system, "writes to VF %u of PF %u, which is "
			       "somebody else's", vf, pf);
}

/* A guest gets the first VIF's VF, or the VFs of its PF are disabled: what
 * the call then does begins with that. */
void judge_meanwhile(struct scripted *system, struct caller *caller,
		     int number)
{
	struct trial *trial = caller->about;
	struct spot spot = trial->scene->spots[0];
	struct pf *pf = &system->machine.pfs[spot.pf];

	if (number == VFS_GO) {
		pf->numvfs = 0;
		trial->start.pfs[spot.pf].numvfs = 0;
	} else if (spot.vf < pf->numvfs) {
		pf->vfs[spot.vf] = (struct vf){ .driver = VFIO, .open = true };
		trial->start.pfs[spot.pf].vfs[spot.vf] = pf->vfs[spot.vf];
	}
}
