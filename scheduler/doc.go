// Package scheduler reads cron files and starts jobs when they are due.
//
// It runs nothing itself: [Parse] turns the bytes of a cron file into a [Table], and a [Scheduler] hands each due run
// to the caller's [Runner]. The package opens no file, starts no process, writes no log and knows no clock but package
// time, so that a year of it can be driven in a testing/synctest bubble. The one exception is time.LoadLocation, which
// reads the system's zones: a binary should import time/tzdata, for hosts that have none.
//
// When a job is due:
//
//   - A schedule whose hour field admits all 24 hours, and @every, follows elapsed
//     time: it is due at every instant whose wall clock reads so. @every counts from
//     the Unix epoch, so that restarts do not postpone it and a fleet agrees on its
//     slots.
//   - Any other schedule is set on the wall clock: a time W is due at the first
//     instant at which the zone's clock shows W or later. A time that daylight saving
//     skips is therefore due when the gap ends (several there are one run), and a
//     repeated time at its first occurrence only.
//
// Slots that passed while the agent was down, held, suspended or slow are caught up by one run of the job, which says
// how many slots it stands for and why, if the job's catch_up allows. Else they are counted and reported as missed. For
// a slot that comes due while the job still runs the job's overlap policy decides; it is counted as an overlap.
package scheduler
