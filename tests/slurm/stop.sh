#!/usr/bin/env bash
# stop.sh FOLDER         ends the cluster that start.sh brought up in FOLDER, and its jobs; keeps the folder, for its logs
# stop.sh FOLDER NODE    ends one node, n1 or n2, and what runs on it; `start.sh FOLDER` brings it back
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

[[ $# == [12] && $1 != -* ]] || fail "usage: stop.sh FOLDER [n1|n2]" 2
name_folder "$1"
can_run
[[ $# == 1 || $2 == n[12] ]] || fail "node $2: n1 or n2" 2
export SLURM_CONF=$folder/slurm.conf

if [[ $# == 2 ]]; then
    end_node "$2"
    # SLURM would find out by itself after SlurmdTimeout. The node is up again as soon as its slurmd says so.
    ! running slurmctld || timeout 60 scontrol update nodename="$2" state=down reason="stop.sh"
    exit
fi

if running slurmctld; then # so that their records say CANCELLED
    timeout 30 squeue --noheader --format=%A 2>/dev/null | sort -u | timeout 30 xargs -r scancel 2>/dev/null || true
fi
end_daemon slurmctld
end_node n1
end_node n2
mapfile -t processes < <(started_with "SLURM_CLUSTER_NAME=$cluster")
end KILL "${processes[@]}"
end_daemon slurmdbd
end_daemon mariadbd
end_daemon munged
rm -f "$folder"/*.pid "$folder"/*.socket "$folder"/*.socket.lock
