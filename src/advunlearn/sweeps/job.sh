#!/bin/bash
#SBATCH $OPTIONS
# shellcheck disable=SC2086,SC2329 # unquoted are numbers and whole lines; `bash -c` calls the functions

# Written by `advunlearn submit`. A task runs the config.yaml of its folder, and resumes where an earlier attempt
# stopped. It goes back into the queue when it is told that its time is up or that its node is wanted and, no more than
# $REQUEUES times, when it was killed.
$SETUP
export job=$FOLDER/$SLURM_ARRAY_TASK_ID log=$FOLDER/logs/$SLURM_ARRAY_TASK_ID
export task=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID

again() { # REASON
  echo "$(date '+%F %T') $1; back into the queue"
  scontrol requeue "$task"
}
killed() { # REASON
  echo "$1" >> "$log.kills"
  if [ "$(wc -l < "$log.kills")" -le $REQUEUES ]; then again "$1"; else echo "$1, and not started again"; fi
}
is() { scontrol -o show job "$task" | grep -q "$1"; }

script_killed() {
  trap : TERM
  if is ' ExitCode=0:9 '; then killed "the batch script was killed"; fi
}
program() { # in a step of its own, which outlives the script for a moment; signals reach Python as well
  trap script_killed TERM
  trap : USR1
  $PYTHON -m advunlearn resume "$job" &
  child=$!
  while kill -0 $child 2> /dev/null; do wait $child; done
  wait $child
}
export -f again killed is script_killed program

trap : TERM USR1 # the step is told as well
srun --ntasks=1 --quiet --mpi=none ${SLURM_CPUS_PER_TASK:+--cpus-per-task=$SLURM_CPUS_PER_TASK} bash -c program
status=$?
case $status in
  137) killed "killed" ;;
  138) again "told to stop by USR1" ;;
  143) # its node is wanted or its time is up, unless it was cancelled
    if is ' JobState=RUNNING \| Reason=TimeLimit '; then
      again "told to stop by TERM"$OR_CANCELLED
    fi
    ;;
esac
exit $status
