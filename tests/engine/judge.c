// SPDX-License-Identifier: Apache-2.0
/*
 * What must hold of a call; see judge.h.
 */
#include <stdio.h>

#include "judge.h"
#include "whose.h"

/* ---- a VF -------------------------------------------------------------- */

static bool same_alias(const struct machine *one, const struct machine *other,
		       unsigned int pf, unsigned int vf)
{
	const struct alias *a = &one->pfs[pf].aliases[0];
	const struct alias *b = &other->pfs[pf].aliases[0];
	unsigned int entry = machine_entry(pf, vf);

	return a->admin[entry] == b->admin[entry] &&
	       a->pkeys[vf][0] == b->pkeys[vf][0] &&
	       a->pkeys[vf][1] == b->pkeys[vf][1];
}

static bool same_vf(const struct machine *one, const struct machine *other,
		    unsigned int pf, unsigned int vf)
{
	const struct vport *a = &one->pfs[pf].vports[vf + 1];
	const struct vport *b = &other->pfs[pf].vports[vf + 1];

	if (one->pfs[pf].family == CX3)
		return same_alias(one, other, pf, vf);
	return a->node == b->node && a->port == b->port &&
	       a->policy == b->policy;
}

/* Whether a VF is what it was; what could not be known may have become
 * idle. */
static bool is_back(const struct machine *start,
		    const struct scripted *system, unsigned int pf,
		    unsigned int vf)
{
	const struct machine *now = &system->machine;
	const struct vport *a = &start->pfs[pf].vports[vf + 1];
	const struct vport *b = &now->pfs[pf].vports[vf + 1];
	bool known = knows_guids(start, pf, vf) && !system->misread;

	if (start->pfs[pf].family == CX3)
		return same_alias(start, now, pf, vf);
	return (a->node == b->node || (!known && b->node == ONES)) &&
	       (a->port == b->port || (!known && b->port == ONES)) &&
	       (a->policy == b->policy ||
		(system->misread && b->policy == DOWN));
}

static bool is_idle(const struct machine *now, unsigned int pf,
		    unsigned int vf)
{
	const struct vport *vport = &now->pfs[pf].vports[vf + 1];

	if (now->pfs[pf].family == CX3)
		return !machine_owner(now, pf, vf, FIRST);
	return idle(vport->node) && idle(vport->port) &&
	       vport->policy == DOWN;
}

/* Of mlx4, that it is asked for. */
static bool has_guid(const struct scene *scene, const struct machine *now,
		     unsigned int vif)
{
	return machine_has(now, scene->spots[vif].pf, scene->spots[vif].vf,
			   FIRST, scene_guid(vif));
}

static bool has_identity(const struct scene *scene, const struct machine *now,
			 unsigned int vif)
{
	unsigned int pf = scene->spots[vif].pf, vf = scene->spots[vif].vf;
	const struct vport *vport = &now->pfs[pf].vports[vf + 1];
	uint64_t guid = scene_guid(vif);

	if (now->pfs[pf].family == CX3)
		return machine_has(now, pf, vf, FIRST, guid) &&
		       now->pfs[pf].aliases[0]
				       .agreed[machine_entry(pf, vf)] == guid;
	return vport->node == scene_node(scene, vif) && vport->port == guid;
}

/* mlx4: that it is in the partition that its VIF names. */
static bool is_member(const struct scene *scene, const struct machine *now,
		      unsigned int vif)
{
	unsigned int pf = scene->spots[vif].pf, vf = scene->spots[vif].vf;

	return !scene_partitions(scene) ||
	       machine_pkey(now, pf,
			    now->pfs[pf].aliases[0].pkeys[vf][0]) == TENANT;
}

static bool is_plugged(const struct scene *scene, const struct machine *start,
		       const struct machine *now, unsigned int vif)
{
	unsigned int pf = scene->spots[vif].pf, vf = scene->spots[vif].vf;
	const struct vport *vport = &now->pfs[pf].vports[vf + 1];

	if (!has_identity(scene, now, vif) || !is_member(scene, now, vif))
		return false;
	if (now->pfs[pf].family == CX3 ||
	    (start->pfs[pf].vfs[vf].open &&
	     !lost_link(scene, vif, start, pf, vf)))
		return true;
	return scene->act == PLUG_UP ? vport->policy == UP :
				       vport->policy != DOWN;
}

/* ---- at the end -------------------------------------------------------- */

static bool warns(const struct trial *trial, const char *of)
{
	size_t i;

	for (i = 0; i < trial->batch->warning_count; i++)
		if (strstr(trial->batch->warnings[i], of))
			return true;
	return false;
}

static bool is_reported(const struct trial *trial, unsigned int pf,
			unsigned int vf)
{
	const struct scene *scene = trial->scene;
	int here = vif_at(scene, pf, vf);
	int held = vif_on(scene, &trial->start, pf, vf);
	unsigned int i;

	for (i = 0; i < scene->count; i++) {
		const struct ibh_error *error = trial->batch->results[i].error;

		if (((int)i != here && (int)i != held) || !error)
			continue;
		/* Without memory that is all that can be told. */
		if (error->kind == IBH_ROLLBACK_FAILED || scene->how.proceed ||
		    scene->act == BACK || error->number == ENOMEM)
			return true;
	}
	/* Where memory fails besides, the words for it may be missing. */
	for (i = 0; i < trial->system->fault_count; i++)
		if (trial->system->faults[i].kind == MEMORY &&
		    trial->system->fault_count > 1)
			return true;
	return warns(trial, "could not be put back");
}

/* A VF of mlx5 whose own driver still shows the identity that was taken off:
 * who asks the host sees a tenant that has gone. */
static void judge_shown(struct trial *trial, unsigned int i, unsigned int pf,
			unsigned int vf)
{
	const struct machine *start = &trial->start;
	const struct machine *machine = &trial->system->machine;
	const struct pf *now = &machine->pfs[pf];

	if (now->family != CX3 && trial->scene->act != UNPLUG_KEEP &&
	    now->autoprobe && on_fabric(trial->scene, i, pf) &&
	    vif_has(trial->scene, i, start, pf, vf) &&
	    knows_guids(start, pf, vf) && !same_vf(start, machine, pf, vf) &&
	    now->vfs[vf].driver == OWN &&
	    now->vfs[vf].identity == scene_node(trial->scene, i))
		scripted_wrong(trial->system, "VF %u of PF %u shows what was "
			       "taken off", vf, pf);
}

/* What a plug says of a guest's VF that it does not touch. */
static const char *left_alone(const struct trial *trial, unsigned int vif)
{
	unsigned int pf = trial->scene->spots[vif].pf;

	return trial->scene->act == PLUG_ANEW && !trial->start.no_guids &&
			       trial->start.pfs[pf].family == STOCK ?
		       "is left alone: a guest has it, with node GUID" :
		       "is left alone";
}

/* What follows from a result without an error. */
static void judge_success(struct trial *trial, unsigned int i)
{
	const struct scene *scene = trial->scene;
	const struct ibh_result *result = &trial->batch->results[i];
	const struct machine *now = &trial->system->machine;
	unsigned int pf, vf;

	if (scene->act == BACK) {
		if (!is_back(&trial->origin, trial->system,
			     scene->spots[i].pf, scene->spots[i].vf) &&
		    !is_idle(now, scene->spots[i].pf, scene->spots[i].vf))
			scripted_wrong(trial->system, "VIF %u is said to be "
				       "back and is not", i);
		return;
	}
	if (scene->act == LOWER) {
		pf = scene->spots[i].pf;
		vf = scene->spots[i].vf;
		if (!vif_has(scene, i, now, pf, vf) ||
		    (now->pfs[pf].family == CX3 ?
			     now->pfs[pf].aliases[0].pkeys[vf][0] != 1 :
			     now->pfs[pf].vports[vf + 1].policy != DOWN))
			scripted_wrong(trial->system, "VIF %u is said to be "
				       "adjusted and is not", i);
		return;
	}
	/* A guest's, of which nothing can be told, is left alone, and so is
	 * the policy of one that may be a guest's. */
	if (!act_unplugs(scene->act) &&
	    !is_plugged(scene, &trial->start, now, i) &&
	    (result->verified ? !trial->system->fault_count ||
					!has_identity(scene, now, i) ||
					!is_member(scene, now, i) :
				result->changed ||
					!(warns(trial, left_alone(trial, i)) ||
					  has_guid(scene, now, i))))
		scripted_wrong(trial->system,
			       "VIF %u is said to be plugged and is not", i);
	for (pf = 0; pf < PFS; pf++)
		for (vf = 0; vf < now->pfs[pf].numvfs; vf++) {
			if (act_unplugs(scene->act))
				judge_shown(trial, i, pf, vf);
			if (!vif_has(scene, i, now, pf, vf) ||
			    !on_fabric(scene, i, pf) ||
			    (!act_unplugs(scene->act) &&
			     vif_at(scene, pf, vf) == (int)i))
				continue;
			/* Nothing is known of who could not be asked. */
			if (knows_guids(&trial->start, pf, vf) &&
			    !trial->start.pfs[pf].vfs[vf].silent &&
			    !trial->system->fault_count)
				scripted_wrong(trial->system,
					       "VIF %u is said to be done, and "
					       "VF %u of PF %u has its GUID",
					       i, vf, pf);
			else if (act_unplugs(scene->act) && result->verified &&
				 !result->changed &&
				 now->pfs[pf].vports[vf + 1].policy != DOWN)
				scripted_wrong(trial->system,
					       "VIF %u is said to be on no VF, "
					       "which nobody can know", i);
		}
}

/* `after` and `changed` where the kernel has shown them. */
static void judge_result(struct trial *trial, unsigned int i)
{
	static const uint8_t policies[] = { FOLLOW, UP, DOWN };
	const struct ibh_result *result = &trial->batch->results[i];
	const struct machine *now = &trial->system->machine;
	const struct ibh_state *after = &result->after;
	const struct vport *vport;
	char address[IBH_PCI_TEXT + 1];
	unsigned int pf, vf;
	bool changed;

	if (!result->verified || !result->has_pci || result->error)
		return;
	ibh_format_pci(result->pci, address);
	if (!machine_find(now, address, ADDRESS - 1, &pf, &vf) || vf == VFS)
		return;
	/* What the hint leads to may be another VIF's, and go with that. */
	if (act_unplugs(trial->scene->act) &&
	    vif_on(trial->scene, &trial->start, pf, vf) != (int)i)
		return;
	vport = &now->pfs[pf].vports[vf + 1];
	changed = now->pfs[pf].family == CX3 && trial->scene->act != LOWER &&
				  trial->scene->act != BACK ?
			  machine_owner(now, pf, vf, FIRST) !=
				  machine_owner(&trial->start, pf, vf, FIRST) :
			  !same_vf(&trial->start, now, pf, vf);
	if (scene_partitions(trial->scene) && act_plugs(trial->scene->act))
		changed |= !same_alias(&trial->start, now, pf, vf);
	/* What could not be read before counts as idle. */
	if (result->changed && !changed && !trial->system->fault_count &&
	    knows_guids(&trial->start, pf, vf))
		scripted_wrong(trial->system, "VIF %u is said to be changed "
			       "and is not", i);
	if (!result->changed && changed && trial->scene->act != BACK)
		scripted_wrong(trial->system, "VIF %u is changed and not said "
			       "to be", i);
	if (!result->has_after)
		return;
	if (now->pfs[pf].family == CX3) {
		if (after->have & IBH_HAVE_PORT &&
		    after->port != now->pfs[pf].aliases[0]
					   .admin[machine_entry(pf, vf)])
			scripted_wrong(trial->system, "VIF %u is not what it "
				       "is said to be", i);
		if (after->have & IBH_HAVE_PKEY &&
		    after->pkey !=
			    machine_pkey(now, pf, now->pfs[pf].aliases[0]
							  .pkeys[vf][0]))
			scripted_wrong(trial->system, "VIF %u has not the "
				       "P_Key that it is said to have", i);
	} else if ((after->have & IBH_HAVE_NODE &&
		    after->node != vport->node) ||
		   (after->have & IBH_HAVE_PORT &&
		    after->port != vport->port) ||
		   (after->have & IBH_HAVE_POLICY &&
		    policies[after->policy] != vport->policy)) {
		scripted_wrong(trial->system,
			       "VIF %u is not what it is said to be", i);
	}
}

/* Bound anew or unbound is only what an unplug took an identity from. */
static void judge_driver(struct trial *trial, unsigned int pf, unsigned int vf)
{
	const struct scene *scene = trial->scene;
	const struct vf *was = &trial->start.pfs[pf].vfs[vf];
	const struct vf *is = &trial->system->machine.pfs[pf].vfs[vf];
	unsigned int i;

	if (was->driver == is->driver && was->open == is->open &&
	    was->identity == is->identity)
		return;
	if (was->open || was->driver != OWN || !act_unplugs(scene->act)) {
		scripted_wrong(trial->system, "VF %u of PF %u is on another "
			       "driver", vf, pf);
		return;
	}
	if (is->driver == OWN)
		return;
	for (i = 0; trial->batch && i < scene->count; i++)
		if (trial->batch->results[i].error)
			return;
	scripted_wrong(trial->system, "VF %u of PF %u is left unbound", vf,
		       pf);
}

void judge_others(const struct trial *trial)
{
	const struct machine *now = &trial->system->machine;
	unsigned int pf, vf;

	for (pf = 0; pf < PFS; pf++) {
		const struct pf *was = &trial->start.pfs[pf];

		if (memcmp(&was->vports[0], &now->pfs[pf].vports[0],
			   sizeof(was->vports[0])) ||
		    was->aliases[0].admin[0] !=
			    now->pfs[pf].aliases[0].admin[0])
			scripted_wrong(trial->system, "PF %u is not what it "
				       "was", pf);
		for (vf = 0; vf < VFS; vf++)
			if (vif_at(trial->scene, pf, vf) < 0 &&
			    vif_on(trial->scene, &trial->start, pf, vf) < 0 &&
			    !same_vf(&trial->start, now, pf, vf))
				scripted_wrong(trial->system,
					       "VF %u of PF %u, somebody "
					       "else's, is changed", vf, pf);
	}
}

/* Binding anew comes when all is done: what goes wrong with it undoes
 * nothing. */
static bool is_afterwards(const struct trial *trial, unsigned int i)
{
	const struct machine *now = &trial->system->machine;
	const struct ibh_result *result = &trial->batch->results[i];
	char address[IBH_PCI_TEXT + 1];
	unsigned int pf, vf;


	if (!act_unplugs(trial->scene->act) ||
	    (!result->changed && result->error->kind != IBH_REBIND_FAILED &&
	     result->error->number != EINTR))
		return false;
	ibh_format_pci(result->pci, address);
	return machine_find(now, address, ADDRESS - 1, &pf, &vf) &&
	       vf < VFS && is_idle(now, pf, vf);
}

/* Where there are files it takes no second look at all VFs: firmware that does
 * not answer about one is waited for once. */
static void judge_silence(struct trial *trial, unsigned int pf,
			   unsigned int vf)
{
	const struct pf *now = &trial->system->machine.pfs[pf];

	if (now->family == OFED && !trial->system->fault_count &&
	    now->vfs[vf].asked > trial->start.pfs[pf].vfs[vf].asked + 1)
		scripted_wrong(trial->system, "VF %u of PF %u is waited for "
			       "more than once", vf, pf);
}

/* `undone`: the batch says that it was put back. */
static void judge_vf(struct trial *trial, unsigned int pf, unsigned int vf,
		     bool undone)
{
	judge_driver(trial, pf, vf);
	judge_silence(trial, pf, vf);
	if (same_vf(&trial->start, &trial->system->machine, pf, vf))
		return;
	if (!trial->batch || trial->scene->how.dry_run)
		scripted_wrong(trial->system, "VF %u of PF %u is changed by a "
			       "call that says it did nothing", vf, pf);
	else if (undone &&
		 !is_back(&trial->start, trial->system, pf, vf) &&
		 !is_reported(trial, pf, vf))
		scripted_wrong(trial->system, "VF %u of PF %u is neither what "
			       "it was nor reported", vf, pf);
}

void judge_end(struct trial *trial)
{
	const struct scene *scene = trial->scene;
	const struct machine *now = &trial->system->machine;
	struct ibh_batch *batch = trial->batch;
	unsigned int pf, vf, i, failed = 0, afterwards = 0;
	bool undone;

	judge_others(trial);
	if (trial->answer ? !trial->error || batch :
			    trial->error || !batch ||
				    batch->count != scene->count) {
		scripted_wrong(trial->system, "answers neither with a batch "
			       "nor with an error");
		return;
	}
	for (i = 0; batch && i < scene->count; i++) {
		const struct ibh_error *error = batch->results[i].error;

		failed += error != NULL;
		afterwards += error && is_afterwards(trial, i);
		if (!error && !scene->how.dry_run && !batch->stopped)
			judge_success(trial, i);
		if (!scene->how.dry_run)
			judge_result(trial, i);
		if (error && !error->message)
			scripted_wrong(trial->system, "an error says nothing");
	}
	if (batch && batch->failed != failed)
		scripted_wrong(trial->system, "%zu failures are %u",
			       batch->failed, failed);
	undone = !scene->how.proceed && scene->act != BACK &&
		 failed > afterwards;
	for (pf = 0; pf < PFS; pf++)
		for (vf = 0; vf < now->pfs[pf].numvfs; vf++)
			judge_vf(trial, pf, vf, undone);
}

static bool is_false(const struct trial *trial, const struct ibh_error *error)
{
	unsigned int i;

	if (!error || error->number != EPERM)
		return false;
	for (i = 0; i < trial->system->fault_count; i++)
		if (trial->system->faults[i].number == EPERM)
			return false;
	return true;
}

void judge_errnos(struct trial *trial)
{
	bool found = is_false(trial, trial->error);
	size_t i;

	for (i = 0; trial->batch && i < trial->batch->count; i++)
		found |= is_false(trial, trial->batch->results[i].error);
	if (found)
		scripted_wrong(trial->system, "an error has an errno that "
			       "nobody gave");
}

bool judge_done(const struct trial *trial)
{
	return trial->answer == 0 && trial->batch->failed == 0 &&
	       !trial->batch->stopped;
}

bool judge_same(const struct machine *one, const struct machine *other)
{
	unsigned int pf, vf;

	for (pf = 0; pf < PFS; pf++)
		for (vf = 0; vf < VFS; vf++)
			if (!same_vf(one, other, pf, vf))
				return false;
	return true;
}
