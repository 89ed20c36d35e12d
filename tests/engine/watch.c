// SPDX-License-Identifier: Apache-2.0
/*
 * What a batch may write, and what comes between; see judge.h.
 */
#include "judge.h"
#include "whose.h"

/* ms, for the lock of a PF */
#define OWN_MS 180000u
#define SEARCH_MS 5000u

/* Whether what the kernel does not know of a guest's VF is lost. */
static bool may_renew(const struct trial *trial)
{
	return trial->scene->act == PLUG_ANEW && !trial->start.no_guids;
}

static bool may_have(const struct trial *trial, const struct command *command,
		     int vif)
{
	const struct scene *scene = trial->scene;
	const struct machine *start = &trial->start;
	unsigned int pf = command->pf, vf = command->vf;
	const struct vport *vport = &start->pfs[pf].vports[vf + 1];
	bool known = knows_guids(start, pf, vf);
	uint64_t was, own;

	/* Of a VF that a guest has, an identity that it is known to have lost
	 * may be given back, or that be undone. */
	if (!plugs_at(scene, vif) || (!known && !may_renew(trial)))
		return false;
	own = command->kind == SET_VPORT && command->what == NODE ?
		      scene_node(scene, (unsigned int)vif) :
		      scene_guid((unsigned int)vif);
	switch (command->kind) {
	case SET_VPORT:
		if (command->what == POLICY)
			return lost_link(scene, (unsigned int)vif, start, pf,
					 vf) &&
			       (command->value == scene_policy(scene) ||
				command->value == DOWN);
		was = command->what == NODE ? vport->node : vport->port;
		if (!known)
			was = own;
		return (idle(was) || was == own) &&
		       (command->value == own || command->value == was);
	case SET_ALIAS:
		was = start->pfs[pf].aliases[command->port - 1]
			      .admin[command->n];
		return (idle(was) || was == own) &&
		       (command->value == own || command->value == was);
	case SET_PKEY:
		if (!vif_has(scene, (unsigned int)vif, start, pf, vf))
			return true;
		/* In the place of none. */
		return scene_partitions(scene) && command->n == 0 &&
		       !machine_pkey(start, pf,
				     start->pfs[pf].aliases[0].pkeys[vf][0]);
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

/* Whether somebody has to expect that what is written is what is there then:
 * nothing was lied to the call. */
static bool is_sure(const struct scripted *system)
{
	if (!system->fault_count)
		return true;
	return system->fault_count == 1 &&
	       (system->faults[0].kind == COMMAND ||
		system->faults[0].kind == COMMANDS ||
		system->faults[0].kind == CRASH ||
		system->faults[0].kind == STOP);
}

/* Both had it before the call: what is undone is as it was. */
static bool were_twins(const struct trial *trial,
		       const struct command *command, unsigned int pf,
		       unsigned int vf)
{
	return machine_has(&trial->start, pf, vf, FIRST, command->value) &&
	       machine_has(&trial->start, command->pf, command->vf, FIRST,
			   command->value);
}

/* No GUID is on two VFs of a fabric at any time, as far as it is known who
 * has which. */
static void judge_twins(struct scripted *system, const struct trial *trial,
			const struct command *command)
{
	const struct scene *scene = trial->scene;
	const struct machine *now = &system->machine;
	unsigned int pf, vf;

	if (!((command->kind == SET_VPORT && command->what != POLICY) ||
	      (command->kind == SET_ALIAS && command->port == FIRST)) ||
	    idle(command->value) || !is_sure(system))
		return;
	for (pf = 0; pf < PFS; pf++)
		for (vf = 0; vf < now->pfs[pf].numvfs; vf++)
			if ((pf != command->pf || vf != command->vf) &&
			    machine_has(now, pf, vf, FIRST, command->value) &&
			    knows_guids(&trial->start, pf, vf) &&
			    !now->pfs[pf].vfs[vf].silent &&
			    !were_twins(trial, command, pf, vf) &&
			    (scene->setting != TWO_FABRICS ||
			     pf == command->pf))
				scripted_wrong(system, "gives VF %u of PF %u "
					       "a GUID that another has",
					       command->vf, command->pf);
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
	judge_twins(system, trial, command);
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

static bool is_named(const struct trial *trial, unsigned int pf)
{
	const struct scene *scene = trial->scene;
	unsigned int i;

	for (i = 0; i < scene->count; i++)
		if (scene->vifs[i].has_pci && scene->spots[i].pf == pf &&
		    (scene->act == UNPLUG_MISLED ||
		     scene->spots[i].vf < trial->start.pfs[pf].numvfs))
			return true;
	return false;
}

void judge_patience(struct scripted *system, struct caller *caller,
		    unsigned int pf, uint64_t ms)
{
	if (!system->fault_count &&
	    ms != (is_named(caller->about, pf) ? OWN_MS : SEARCH_MS))
		scripted_wrong(system, "waits %llu ms for PF %u",
			       (unsigned long long)ms, pf);
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
