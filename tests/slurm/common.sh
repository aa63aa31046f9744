# Shared by start.sh and stop.sh: which processes belong to the cluster in $folder, and how they are ended.
# shellcheck shell=bash

export PATH="$PATH:/usr/sbin:/sbin" # where Debian keeps the daemons

# fail LINE [STATUS]: one line on stderr, and out.
fail() {
    echo "error: $1" >&2
    exit "${2:-1}"
}

# Sets $folder and $cluster (SLURM's name for it, which every process of its jobs carries in its environment).
name_folder() {
    folder=$(realpath -m -- "$1")
    [[ $folder =~ ^[A-Za-z0-9/._+-]+$ ]] || fail "folder $folder: only letters, digits and /._+- may be in its name" 2
    ((${#folder} <= 80)) || fail "folder $folder: the names of sockets in it would be too long; 80 characters at most" 2
    cluster=lf$(cksum <<<"$folder" | cut -d ' ' -f 1)
}

# has PID NAME=VALUE: whether the process was started with this in its environment.
has() { tr '\0' '\n' 2>/dev/null <"/proc/$1/environ" | grep -qxF -- "$2"; } 2>/dev/null

# running DAEMON: sets $pid and succeeds if DAEMON of this folder runs. A stale pid file may name anybody's process,
# so the process must have been started with this folder's SLURM_CONF.
running() {
    local program=${1%-n[0-9]*}
    pid=$(cat "$folder/$1.pid" 2>/dev/null) && [[ -n $pid && $(cat "/proc/$pid/comm" 2>/dev/null) == "$program" ]] &&
        has "$pid" "SLURM_CONF=$folder/slurm.conf"
}

# gone SECONDS PID…: waits until the processes have ended.
gone() {
    local until=$((SECONDS + $1)) process
    shift
    for process; do
        while [[ -d /proc/$process && $(cut -d ' ' -f 3 "/proc/$process/stat" 2>/dev/null) != Z ]]; do
            ((SECONDS < until)) || return 1
            sleep .05
        done
    done
}

# end DAEMON [SIGNAL]: and waits for it.
end() {
    if running "$1"; then
        kill "-${2:-TERM}" "$pid" 2>/dev/null || true
        gone 20 "$pid" || { kill -KILL "$pid" 2>/dev/null && gone 10 "$pid"; } || true
    fi
    rm -f "$folder/$1.pid"
}

# end_jobs [NODE]: kills what jobs left here, the daemons that watched over them first.
end_jobs() {
    local directory process found=()
    for directory in /proc/[0-9]*; do
        process=${directory#/proc/}
        [[ $process != "$$" ]] && has "$process" "SLURM_CLUSTER_NAME=$cluster" || continue
        [[ -z ${1-} ]] || has "$process" "SLURMD_NODENAME=$1" || continue
        found+=("$process")
    done
    ((${#found[@]} == 0)) || kill -KILL "${found[@]}" 2>/dev/null || true
}
