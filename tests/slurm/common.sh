# Shared by start.sh and stop.sh: which processes belong to the cluster in $folder, and how they are ended.
# shellcheck shell=bash
# Pid files go stale, and names such as slurmd may be another cluster's. What the scripts start carries a mark in its
# environment instead, and the processes of jobs carry the cluster's name.

export PATH="$PATH:/usr/sbin:/sbin" # where Debian keeps the daemons
unset "${!SLURM_@}"                 # this may itself run inside a job of some other cluster

# fail LINE [STATUS]: one line on stderr, and out.
fail() {
    echo "error: $1" >&2
    exit "${2:-1}"
}

# can_run: nothing here works elsewhere than on Linux, as root.
can_run() {
    [[ $(uname) == Linux ]] || fail "SLURM cannot start here: this is $(uname), not Linux" 3
    [[ $(id -u) == 0 ]] || fail "SLURM cannot start here: its daemons need root, and this is user $(id -un)" 3
}

# name_folder FOLDER: sets $folder and $cluster.
name_folder() {
    folder=$(realpath -m -- "$1")
    [[ $folder =~ ^[A-Za-z0-9/._+-]+$ ]] || fail "folder $folder: only letters, digits and /._+- may be in its name" 2
    ((${#folder} <= 90)) || fail "folder $folder: too long for the names of sockets in it; 90 characters at most" 2
    cluster=lf$(cksum <<<"$folder" | cut -d ' ' -f 1)
}

# started_with NAME=VALUE: the processes that have this in their environment.
started_with() { grep -lsxzF -- "$1" /proc/[0-9]*/environ | cut -d / -f 3 || true; }

# daemon NAME COMMAND…: starts it. It outlives the caller and must hold neither the caller's pipes nor its lock (9).
daemon() { LF_SLURM_DAEMON="$folder $1" setsid --fork "${@:2}" </dev/null >>"$folder/$1.out" 2>&1 9>&-; }

running() { [[ -n $(started_with "LF_SLURM_DAEMON=$folder $1") ]]; }

# end SIGNAL PID…: and waits, 10 s at most before it is KILL.
end() {
    local signal=$1 process until=$((SECONDS + 10))
    shift
    (($# == 0)) || kill "-$signal" "$@" 2>/dev/null || true
    for process; do
        while [[ -d /proc/$process && $(cut -d ' ' -f 3 "/proc/$process/stat" 2>/dev/null) != Z ]]; do
            if ((SECONDS >= until)) && [[ $signal != KILL ]]; then
                end KILL "$@"
                return
            fi
            ((SECONDS < until + 10)) || fail "process $process does not end"
            sleep .05
        done
    done
}

# end_daemon NAME [SIGNAL]
end_daemon() {
    local processes
    mapfile -t processes < <(started_with "LF_SLURM_DAEMON=$folder $1")
    end "${2:-TERM}" "${processes[@]}"
}

# watchers NODE: the slurmstepd processes. Their title overwrites their environment, but they share their slurmd's log.
watchers() {
    local process
    grep -lsx slurmstepd /proc/[0-9]*/comm | cut -d / -f 3 | while read -r process; do
        ! readlink "/proc/$process/fd/"* 2>/dev/null | grep -qxF "$folder/slurmd-$1.log" || echo "$process"
    done
}

# end_node NODE: as a power cut would. A slurmd that finds no controller ignores TERM, and so do submitit's jobs.
end_node() {
    local processes
    end_daemon "slurmd-$1" KILL
    mapfile -t processes < <(
        watchers "$1"
        comm -12 <(started_with "SLURM_CLUSTER_NAME=$cluster" | sort) <(started_with "SLURMD_NODENAME=$1" | sort)
    )
    end KILL "${processes[@]}"
}
