/*
 * The protocol of package claim as a model for spin (https://spinroot.com): no two runs of a job at once, no slot twice,
 * nobody blocked for ever. ./check explores every state of it, and of the mutations below, each of which must be caught.
 *
 * Three instances share the register of one job, which has two slots. They may be of two environments in one group: they
 * share the key, and their cron files may differ in the overlap policy. An instance is an agent and a supervisor.
 *
 *   - An agent may be slow for any time at any step (SIGSTOP, partition), which is also how it dies. A step is one read
 *     with the decision that follows from it; nothing that an agent remembers between two steps is needed for safety,
 *     so a crash and a restart between two steps are covered.
 *   - A conditional write may arrive late, also after its sender gave up on it and sent another; it may never arrive; its
 *     answer may be lost: no step waits for an answer, what a write did is learnt by reading again.
 *   - A supervisor starts an attempt at a slot once at most, outlives its agent, and kills a run at its lease's end. It
 *     is the only part that is in time: that is what the model assumes of it, and of nobody else.
 *   - Time passes in ticks of the store's clock. Nobody reads a wall clock of his own. An agent knows the store's time
 *     between two bounds, low and high, that differ by all that answers and monotonic clocks can be wrong: DRIFT. A run is
 *     dead when low > until; the owner may use what is left of until − MARGIN by high. Only the sum of both errors
 *     matters: here the supervisor is late by all of it. A run's grace is part of its lease here.
 *
 * Nobody blocked for ever is explored with two owners (-DTWO), without renewals and late writes: the third adds nothing
 * that waits, and the states are too many. What is not modelled, and rests on tests alone: replace (AskToEnd only asks,
 * what follows is the end of a run), allow (its runs have no lease, and are in no other's way), runs that a user starts
 * with or without --force, locks of the environment (a register each, in which every run is a user's), what is noted and
 * reported of losses and missed slots, sixteen slots of which the oldest go, and whoever writes the register besides.
 *
 * Names are those of the code: Claim, Renew, TakeOver, Finish and SetPause are methods of Store; Won, Lost, Busy and
 * Paused states of a claim; live, expired, lost and finished states of a run in the register; owner and attempt here are
 * what the nonce is there.
 */
#define OWNERS 3
#define SLOTS 2
#define DRIFT 1
#ifdef NO_MARGIN
#define MARGIN 0
#else
#define MARGIN 1
#endif
#define LEASE 2
#define REST (MARGIN + 1)    /* from the lease's end to low > until, which is strict */
#define UNTIL (LEASE + REST)

#ifndef RERUN                /* on_owner_loss: 0 report, 1 rerun of slot 0, 2 rerun of both */
#define RERUN 0
#endif
#ifndef PAUSES               /* how often somebody pauses or resumes the job */
#define PAUSES 0
#endif

mtype = { free, live, lost, finished };       /* a run in the register; an expired one is live, and its until is over */
mtype = { Claim, TakeOver, Renew, Finish, Interrupt }; /* what a write is for; Interrupt is a Finish that others may take over */
mtype = { Skip, Queue };                      /* the overlap policy */

typedef Run { mtype state; byte owner, attempt, until }
typedef Put { bool sent; mtype op; byte slot, attempt, until, expired }

/* The register. Times are lengths from now. */
Run reg[SLOTS];
bool paused;

/* The network: the last write of each instance, and an older one of one of them. All are of the register as it is: those
 * that are not will be refused, which is as if they had never been sent. */
Put put[OWNERS];
Put late;
byte lateOwner;

/* The agents: a slot that is won and not yet started (its number + 1, or 0), and the end of its lease. */
byte won[OWNERS], wonAttempt[OWNERS], wonLease[OWNERS];

/* The supervisors: the run (its slot + 1, or 0), the time until it is killed, and an end that the agent is to note. */
byte running[OWNERS], attempt[OWNERS], left[OWNERS];
byte ended[OWNERS], endedAttempt[OWNERS];
bool started[4];             /* slot * 2 + attempt − 1 */
#ifdef LIVENESS
bool dead, through;
#endif

#define is(what, u) (reg[u].state == what)
#ifdef WALL_CLOCK            /* an instance judges others by its own wall clock, which is ahead */
#define past(u) (reg[u].until <= 2)
#elif defined(NO_EXPIRY)     /* a run without an end blocks, whoever its owner was */
#define past(u) false
#else
#define past(u) (reg[u].until == 0)
#endif
#define expired(u) (is(live, u) && past(u))
#define mine(u) (reg[u].owner == i)
/* A run of this instance that its supervisor does not run has ended, and the next claim says so. */
#define busy(u) (is(live, u) && !past(u) && !mine(u))
#define other(u) (1 - (u))
#define idle (running[i] == 0 && won[i] == 0)
#define attemptOf(u, a) ((u) * 2 + (a) - 1)
#define hasEnded(u) (ended[i] == (u) + 1 && endedAttempt[i] == reg[u].attempt)
#ifdef STARTS_WITHOUT_RENEWING /* a fresh process, though a write of the one before it may still arrive */
#define inFlight false
#else                        /* it renews first, which has the store refuse the others */
#define inFlight (put[i].sent && put[i].op != Renew || late.sent && lateOwner == i && late.op != Renew)
#endif
#define reclaims(u) (unstarted(u) && !inFlight)
#define unstarted(u) (is(live, u) && mine(u) && !started[attemptOf(u, reg[u].attempt)] && !hasEnded(u))

#ifdef NO_NONCE              /* only the owner's name is compared */
#define same(i, u, a) (reg[u].owner == i)
#else
#define same(i, u, a) (reg[u].owner == i && reg[u].attempt == (a))
#endif

#ifdef LAST_WRITE            /* the lease counts from the last write, and not from the one that is in the register */
#define lease(u) LEASE
#elif defined(LOW)           /* what is left to the owner is computed from the low bound */
#define lease(u) (reg[u].until > 0 -> reg[u].until - 1 : 0)
#else
#define lease(u) (reg[u].until > REST -> reg[u].until - REST : 0)
#endif

#define done(u) reg[u].state = finished; reg[u].until = 0; keep(u)
#ifdef RETRY                 /* who ran the slot is of use afterwards */
#define keep(u) skip
#else
#define keep(u) reg[u].owner = 0; reg[u].attempt = 0
#endif

/* An end that no register will take is forgotten, which only makes states the same that differ in nothing. */
#define takes(i, u, a) ((is(live, u) || is(lost, u)) && same(i, u, a))
#define forget(i) if :: ended[i] != 0 && !takes(i, ended[i]-1, endedAttempt[i]) -> ended[i] = 0; endedAttempt[i] = 0 :: else fi

inline clear(p) { p.sent = 0; p.op = 0; p.slot = 0; p.attempt = 0; p.until = 0; p.expired = 0 }

inline send(what, u, a) {
	put[i].sent = 1; put[i].op = what; put[i].slot = u; put[i].attempt = a;
	put[i].until = (what == Finish || what == Interrupt -> 0 : UNTIL);
	put[i].expired = expired(0) + 2 * expired(1)
}

/* The register has changed: what else was written on it as it was is refused. */
inline changed() {
#ifndef NO_REREAD            /* after a conflict the same is written again, without a look at what has changed */
	clear(put[0]); clear(put[1]); clear(put[2]); clear(late); lateOwner = 0;
#endif
	forget(0); forget(1); forget(2)
}

/* The store takes a write. Runs that it saw expired are lost; an ended run of its owner is finished. */
inline apply(o, p) {
	if :: p.expired & 1 -> reg[0].state = lost :: else fi;
	if :: p.expired & 2 -> reg[1].state = lost :: else fi;
	if
	:: p.op == Claim || p.op == TakeOver ->
		assert(!paused);
		if :: reg[other(p.slot)].owner == o && is(live, other(p.slot)) -> done(other(p.slot)) :: else fi;
		reg[p.slot].state = live; reg[p.slot].owner = o; reg[p.slot].attempt = p.attempt; reg[p.slot].until = p.until;
		if :: p.attempt == 2 -> started[attemptOf(p.slot, 1)] = 1 :: else fi /* may not start any more */
	:: p.op == Renew -> reg[p.slot].state = live; reg[p.slot].until = p.until
	:: p.op == Finish -> done(p.slot)
	:: p.op == Interrupt -> reg[p.slot].state = lost; reg[p.slot].until = 0
	fi;
	clear(p);
	changed()
}

inline win(u) { won[i] = u + 1; wonAttempt[i] = reg[u].attempt; wonLease[i] = lease(u) }

inline ends() { running[i] = 0; attempt[i] = 0; left[i] = 0 }

#define mayRenew(u, a) (takes(i, u, a) && (is(live, u) || !busy(other(u))))

proctype Instance(byte i; mtype overlap) {
	byte s = 0;              /* the next slot: those before it are decided here */
	do
	/* Claim: read, decide, write. */
	:: d_step { !put[i].sent && idle && s < SLOTS && (!unstarted(s) || reclaims(s)) ->
		if
#ifdef NO_GROUP              /* instance 2 is of an environment with a register of its own */
		:: i == 2 -> won[i] = s + 1; wonAttempt[i] = 1; wonLease[i] = LEASE
		:: i != 2 && unstarted(s) -> win(s)
#else
		:: unstarted(s) -> win(s)                                      /* Won: so says the nonce */
#endif
		:: !is(free, s) && !unstarted(s) -> s++                        /* Lost */
#ifdef IGNORES_PAUSE
		:: is(free, s) && busy(other(s)) -> if :: overlap == Skip -> s++ :: else fi
		:: is(free, s) && !busy(other(s)) -> send(Claim, s, 1)
#else
		:: is(free, s) && paused -> s++                                /* Paused */
		:: is(free, s) && !paused && busy(other(s)) ->                 /* Busy */
			if :: overlap == Skip -> s++ :: else fi
		:: is(free, s) && !paused && !busy(other(s)) -> send(Claim, s, 1)
#endif
		fi }

#if RERUN                    /* TakeOver: once, of a run that has expired or is lost */
#ifdef TAKES_OVER_BLINDLY    /* though another slot's run is live */
#define mayTake(u) (!put[i].sent && idle && !paused && reg[u].attempt == 1 && (expired(u) || is(lost, u)))
#else
#define mayTake(u) (!put[i].sent && idle && !paused && reg[u].attempt == 1 && (expired(u) || is(lost, u)) && !busy(other(u)))
#endif
	:: d_step { mayTake(0) -> send(TakeOver, 0, 2) }
	:: d_step { idle && reg[0].attempt == 2 && reclaims(0) -> win(0) }
#if RERUN == 2
	:: d_step { mayTake(1) -> send(TakeOver, 1, 2) }
	:: d_step { idle && reg[1].attempt == 2 && reclaims(1) -> win(1) }
#endif
#endif
#ifdef RETRY                 /* a second attempt of the owner reopens its run, also one whose end is not written yet */
	:: d_step { !put[i].sent && idle && reg[0].attempt == 1 && mine(0) && (is(finished, 0) || is(live, 0) && hasEnded(0)) &&
		!paused && !busy(1) -> send(Claim, 0, 2) }
	:: d_step { idle && reg[0].attempt == 2 && reclaims(0) -> win(0) }
#endif

	/* A won slot is started, while its lease lasts. */
	:: d_step { won[i] != 0 ->
		if
		:: wonLease[i] > 0 ->
			assert(!started[attemptOf(won[i]-1, wonAttempt[i])]);      /* never a slot twice */
			assert(running[0] + running[1] + running[2] == 0);         /* never two at once */
			started[attemptOf(won[i]-1, wonAttempt[i])] = 1;
			running[i] = won[i]; attempt[i] = wonAttempt[i]; left[i] = wonLease[i] + DRIFT
		:: else -> ended[i] = won[i]; endedAttempt[i] = wonAttempt[i]
		fi;
		if :: won[i] == s + 1 -> s++ :: else fi;
		won[i] = 0; wonAttempt[i] = 0; wonLease[i] = 0 }

#ifndef LIVENESS
	/* Renew: a write, and then the supervisor is told what the register says. A lost run comes back if none is live. */
	:: d_step { !put[i].sent && running[i] != 0 && mayRenew(running[i]-1, attempt[i]) -> send(Renew, running[i]-1, attempt[i]) }
	:: d_step { !put[i].sent && won[i] != 0 && mayRenew(won[i]-1, wonAttempt[i]) -> send(Renew, won[i]-1, wonAttempt[i]) }
	:: d_step { won[i] != 0 && is(live, won[i]-1) && same(i, won[i]-1, wonAttempt[i]) && wonLease[i] < lease(won[i]-1) ->
		wonLease[i] = lease(won[i]-1) }
	:: d_step { running[i] != 0 && is(live, running[i]-1) && same(i, running[i]-1, attempt[i]) &&
		lease(running[i]-1) > 0 && left[i] < lease(running[i]-1) + DRIFT -> left[i] = lease(running[i]-1) + DRIFT }
#endif

	/* Finish. */
	:: d_step { !put[i].sent && ended[i] != 0 && takes(i, ended[i]-1, endedAttempt[i]) ->
		send(Finish, ended[i]-1, endedAttempt[i]) }
#if RERUN
	:: d_step { !put[i].sent && ended[i] != 0 && is(live, ended[i]-1) && same(i, ended[i]-1, endedAttempt[i]) ->
		send(Interrupt, ended[i]-1, endedAttempt[i]) }
#endif

	/* The network: a write arrives, gets lost, or may arrive after its sender gave up on it. */
	:: d_step { put[i].sent -> apply(i, put[i]) }
#ifndef LIVENESS
	:: d_step { put[i].sent -> clear(put[i]) }
#ifdef LATE
	:: d_step { put[i].sent && !late.sent ->
		late.sent = 1; late.op = put[i].op; late.slot = put[i].slot; late.attempt = put[i].attempt;
		late.until = put[i].until; late.expired = put[i].expired; lateOwner = i; clear(put[i]) }
#endif
#endif

	/* The supervisor: a run ends, by itself or by the lease, and its end is noted, or the instance has gone with it. */
	:: d_step { running[i] != 0 -> ended[i] = running[i]; endedAttempt[i] = attempt[i]; ends() }
	:: d_step { running[i] != 0 -> ends() }
#ifdef LIVENESS
	:: i == 0 && dead -> break
	:: d_step { i == 1 && s == SLOTS && !through -> through = true }
#endif
	od;
#ifdef LIVENESS
	do :: d_step { running[i] != 0 -> ends() } od
#endif
}

#define down(x) if :: x > 0 -> x-- :: else fi
#define inTime(i) (running[i] == 0 || left[i] > 0)

byte pauses;

#define bothSlotsRan (started[0] && started[2])
#define runAfterALoss (is(lost, 0) && started[2])
#define runAfterARetry (started[1] && started[2])

proctype World() {
	do
	/* Time passes, but not past the end of a lease at a supervisor. */
#ifdef NO_END                /* the supervisor knows no lease */
	:: d_step { true ->
#else
	:: d_step { inTime(0) && inTime(1) && inTime(2) ->
#endif
		down(left[0]); down(left[1]); down(left[2]);
		down(put[0].until); down(put[1].until); down(put[2].until); down(late.until);
#ifndef RELATIVE             /* an agent hands over a length that it computed some time ago */
		down(wonLease[0]); down(wonLease[1]); down(wonLease[2]);
#endif
		down(reg[0].until); down(reg[1].until) }
	:: d_step { late.sent -> apply(lateOwner, late) }
	:: d_step { late.sent -> clear(late); lateOwner = 0 }
	/* SetPause. */
	:: d_step { pauses < PAUSES -> pauses++; paused = !paused; changed() }
#ifdef LIVENESS
	:: !dead -> dead = true
#endif
#ifdef REACH                 /* "it never happens that": to be refuted, else the model does nothing that can go wrong */
	:: assert(!(REACH))
#endif
	od
}

init { atomic {
	reg[0].state = free; reg[1].state = free;
	run Instance(0, Skip); run Instance(1, POLICY); 
#ifndef TWO
	run Instance(2, Queue);
#endif
	run World()
} }

#ifdef LIVENESS
/* Instance 0 dies. Nothing is done for it any more, but instance 1, which waits, gets through its slots. */
ltl unblocked { <> dead -> <> through }
#endif
