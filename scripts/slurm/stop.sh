#!/bin/bash
# Stop the cluster that start.sh started: cancel its jobs, then end its daemons, each by pid.
# stop.sh [--clean]   --clean also deletes its folder (state, logs, accounting, job numbers)
# Exit: 0 all of it is down (also when none of it ran), 1 something would not end.
BASE=${SLURM_LOCAL:-${TMPDIR:-/tmp}/slurm-local}
set -u; run=$BASE/run; export SLURM_CONF=$BASE/slurm.conf
[ -d "$run" ] || exit 0
exec 9>"$run/lock"; flock -w 60 9 || { echo "stop.sh: another start or stop holds $run/lock" >&2; exit 1; }
bad=0

# 1. Jobs: CONT and TERM, KILL after KillWait. Skipped when no controller answers.
if timeout 5 scontrol ping 2>/dev/null | grep -q UP; then
  end=$((SECONDS + 15))
  while jobs=$(timeout 5 squeue -h -o %A | sort -u) && [ -n "$jobs" ] && ((SECONDS < end)); do
    # shellcheck disable=SC2086 # a list of jobs
    scancel $jobs 2>/dev/null; sleep .2
  done
fi

# 2. Daemons, in the reverse of their start: TERM, then KILL after 10 s. A pid is ours only if the
#    mark of start.sh is in its environment; a zombie, which PID 1 may reap late, has none.
alive() { grep -qzx "SLURM_LOCAL_DAEMON=$BASE" "/proc/$1/environ" 2>/dev/null; }
for f in "$run"/slurmd-*.pid "$run"/{slurmctld,slurmdbd,mariadbd,munged}.pid; do
  p=$(cat "$f" 2>/dev/null) || continue
  [ -n "$p" ] && alive "$p" && kill "$p" && for ((end = SECONDS + 10; SECONDS < end;)); do
    alive "$p" || break; sleep .05
  done
  if [ -n "$p" ] && alive "$p"; then
    kill -KILL "$p"; sleep .2
    alive "$p" && { echo "stop.sh: $f: $p would not end" >&2; bad=1; }
  fi
  rm -f "$f"
done

# 3. Job steps that outlived their daemons. Each slurmstepd works in our log folder, and leads the
#    session of its tasks.
for p in $(pgrep -x slurmstepd); do
  [ "$(readlink "/proc/$p/cwd")" = "$BASE/log" ] || continue
  s=$(ps -o sid= -p "$p") && pkill -KILL -s "$((s))"
done
if [ "${1-}" = --clean ] && [ $bad = 0 ]; then
  [ "$(readlink /etc/slurm/slurm.conf)" != "$SLURM_CONF" ] || rm -f /etc/slurm/slurm.conf
  rm -rf "$BASE"
fi
exit $bad
