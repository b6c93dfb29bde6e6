#!/bin/sh
# An array of jobs, one for each session of a list. Each mounts the dataset itself, and needs no prolog for that:
#
#     vbnfs sessions --query "sex == 'F'" --columns ecephys_session_id --csv | tail -n +2 >list
#     sbatch --array="1-$(wc -l <list)%20" sessions.sh list python3 spikes.py
#
# Before the program runs, its session is fetched whole (the warm step). The program's last two arguments are the folder
# of the mount and the session's id. A job whose node cannot mount or fetch goes back into the queue, three times at most.
#SBATCH --job-name=sessions
#SBATCH --time=4:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append

list=$1
shift
session=$(sed -n "${SLURM_ARRAY_TASK_ID:-1}p" "$list")
vbn=/tmp/vbn-$SLURM_JOB_ID

leave() {
    vbnfs umount --if-mounted --lazy "$vbn"
    rmdir "$vbn" 2>/dev/null
}

# Back into the queue, this job of the array alone. It begins anew.
again() {
    job=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}
    [ "${SLURM_RESTART_COUNT:-0}" -ge 3 ] || scontrol requeue "$job"
    exit 75
}

# Hand SIGTERM on, and wait: when this script ends, Slurm kills at once what is left of the job.
stop() {
    trap '' TERM # Slurm may send another one
    [ -z "$!" ] || { kill "$!" 2>/dev/null; wait "$!"; }
    exit 143
}

trap leave EXIT
trap stop TERM # when it is cancelled or preempted, and two minutes before its time is over
vbnfs mount "$vbn" || again
vbnfs prefetch "$vbn/ecephys_sessions/ecephys_session_$session.nwb" || again
"$@" "$vbn" "$session" & # the shell acts on a signal while the program runs
wait "$!"
