#!/usr/bin/env bash
# start.sh [--accounting] [--stand-in] [FOLDER]
#
# Brings up a real SLURM on this machine: slurmctld and the nodes n1 and n2, with 4 CPUs and 2 pretended GPUs each
# (they set CUDA_VISIBLE_DEVICES, nothing more). Needs root on Debian or Ubuntu. Of the machine itself it changes nothing,
# unless LF_NEED_SLURM=1: then it installs the packages that are missing and adds the nodes' names to /etc/hosts.
# Everything is in FOLDER (default: a new temporary one): configuration, logs, state, its own munge and database.
# Several clusters live side by side. Run again, it starts what has ended: `stop.sh FOLDER n2`, say.
#
#   --accounting  slurmdbd with a database, so that sacct knows jobs that died; without it there is no sacct on PATH
#   --stand-in    without accounting: a sacct that answers from squeue
#
# Partitions: main, whose jobs are requeued when one in high wants their place.
# LF_NEED_SLURM=1        install what is missing
# LF_SLURM_PORT          the first of 4 ports in a row; default: free ones
# LF_SLURM_MAX_ARRAY     MaxArraySize, 1001; the largest index is one less
# LF_SLURM_MIN_JOB_AGE   seconds that squeue and scontrol remember a job that ended, 300
# Exit status: 2 asked wrongly, 3 SLURM cannot start on this machine, 1 it did not come up.
set -euo pipefail
here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$here/common.sh"

accounting=no stand_in=no given=
for word; do
    case $word in
    --accounting) accounting=yes ;;
    --stand-in) stand_in=yes ;;
    -h | --help)
        sed -n '2,/^set /{/^set /!s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
        exit
        ;;
    -*) fail "option $word: unknown; --accounting, --stand-in, --help" 2 ;;
    *)
        [[ -z $given ]] || fail "folders $given and $word: one at most" 2
        given=$word
        ;;
    esac
done
[[ $accounting$stand_in != yesyes ]] || fail "--accounting brings a real sacct; leave out --stand-in" 2
max_array=${LF_SLURM_MAX_ARRAY:-1001} min_job_age=${LF_SLURM_MIN_JOB_AGE:-300} port=${LF_SLURM_PORT:-}
for number in "$max_array" "$min_job_age" "${port:-1}"; do
    [[ $number =~ ^[1-9][0-9]*$ ]] || fail "LF_SLURM_… is '$number': a whole number above 0" 2
done
[[ -z $given ]] || name_folder "$given"
can_run
declare -A package=([slurmctld]=slurmctld [slurmd]=slurmd [srun]=slurm-client [munged]=munge)
[[ $accounting == no ]] || package+=([slurmdbd]=slurmdbd [mariadbd]=mariadb-server-core)
missing=()
for program in "${!package[@]}"; do
    command -v "$program" >/dev/null || missing+=("${package[$program]}")
done
((${#missing[@]} == 0)) || [[ ${LF_NEED_SLURM:-} == 1 ]] ||
    fail "SLURM cannot start here: no ${missing[*]}; LF_NEED_SLURM=1 installs it by apt-get" 3
((${#missing[@]} == 0)) || command -v apt-get >/dev/null ||
    fail "SLURM cannot start here: no ${missing[*]}, and no apt-get to install it" 3
has_name() { grep -qE "^[^#]*[[:space:]]$1([[:space:]]|\$)" /etc/hosts; } # it is the master address of jobs of many processes
for node in n1 n2; do
    has_name "$node" || [[ ${LF_NEED_SLURM:-} == 1 ]] ||
        fail "SLURM cannot start here: /etc/hosts lacks $node; LF_NEED_SLURM=1 adds it" 3
done

[[ -n $given ]] || name_folder "$(mktemp -d -t lf-slurm-XXXXXX)"
mkdir -p "$folder"/{state,spool/n1,spool/n2,bin}
chmod 755 "$folder" # munged wants its socket to be in reach
exec 9>"$folder/lock"
flock -w 300 9 || fail "folder $folder: another start.sh is at work on it"
name=$(hostname -s)

if ((${#missing[@]})); then
    # RUNLEVEL, and the lack of an /etc/slurm/slurm.conf, keep the packages' services from starting.
    install() {
        RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@" \
            </dev/null >>"$folder/apt.out" 2>&1 9>&-
    }
    wanted=(install -y --no-install-recommends "${missing[@]}")
    install "${wanted[@]}" || { install update && install "${wanted[@]}"; } ||
        fail "SLURM cannot start here: apt-get cannot install ${missing[*]}: $(tail -n 1 "$folder/apt.out")" 3
fi

for node in n1 n2; do
    has_name "$node" || echo "127.0.0.1 $node" >>/etc/hosts ||
        fail "SLURM cannot start here: /etc/hosts lacks $node and cannot be written" 3
done

# Ports: those of the last time if they are free or ours; below 32768, where the kernel picks from.
free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
four_free() { free "$1" && free $(($1 + 1)) && free $(($1 + 2)) && free $(($1 + 3)); }
before=$(sed -n 's/^SlurmctldPort=//p' "$folder/slurm.conf" 2>/dev/null || true)
if running slurmctld && [[ -z $port || $port == "$before" ]]; then
    port=$before
elif [[ -n $port ]]; then
    running slurmctld || four_free "$port" || fail "LF_SLURM_PORT=$port: not free, or one of the 3 that follow"
else
    port=${before:-0}
    until ((port)) && four_free "$port"; do port=$((20000 + RANDOM % 3000 * 4)); done
fi

# No two clusters count from the same number, nor one from an old number: logs of old jobs never pass for new ones.
first=$(($(date +%s) % 600000 * 100 + 1))
fresh=yes
if running slurmctld; then
    fresh=no
    first=$(sed -n 's/^FirstJobId=//p' "$folder/slurm.conf")
fi
configuration() {
    cat <<END
ClusterName=$cluster
SlurmctldHost=$name(127.0.0.1)
SlurmUser=root
SlurmctldPort=$port
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd-%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd-%n.log
AuthType=auth/munge
# cred_expire: a requeued job starts again after 6-9 s rather than 120
AuthInfo=cred_expire=5,socket=$folder/munge.socket
ProctrackType=proctrack/linuxproc
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=5,bf_interval=2
ReturnToService=2
JobRequeue=1
KillWait=5
MinJobAge=$min_job_age
MaxArraySize=$max_array
FirstJobId=$first
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
# config_overrides: a node claims its 4 CPUs on a smaller machine too
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName=n1 NodeHostname=$name NodeAddr=127.0.0.1 Port=$((port + 1)) CPUs=4 RealMemory=16000 Gres=gpu:2
NodeName=n2 NodeHostname=$name NodeAddr=127.0.0.1 Port=$((port + 2)) CPUs=4 RealMemory=16000 Gres=gpu:2
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=30
PartitionName=high Nodes=n1,n2 MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
END
    if [[ $accounting == yes ]]; then
        cat <<END
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$((port + 3))
# the name is SLURM's; with munge it is a socket
AccountingStoragePass=$folder/munge.socket
END
    else
        echo "AccountingStorageType=accounting_storage/none"
    fi
}
new=$(configuration)
if [[ $fresh == yes ]]; then
    "$here/stop.sh" "$folder" # what a crash has left
    echo "$new" >"$folder/slurm.conf"
elif [[ $new != "$(cat "$folder/slurm.conf")" ]]; then
    fail "folder $folder: runs with other settings; first $here/stop.sh $folder" 2
fi
export SLURM_CONF=$folder/slurm.conf
ln -sf /dev/null "$folder/gpu0" # a pretended GPU has to be a device
ln -sf /dev/null "$folder/gpu1"
echo "Name=gpu File=$folder/gpu[0-1]" >"$folder/gres.conf"
if printf '%s\n' 24.05 "$(slurmd -V | cut -d ' ' -f 2)" | sort -CV; then # before, it did not know the word, nor ask systemd for a scope
    echo "CgroupPlugin=disabled" >"$folder/cgroup.conf"
fi

# await SECONDS DAEMON COMMAND…: waits until the command succeeds, or says what DAEMON said last.
await() {
    local end=$((SECONDS + $1))
    until timeout 30 "${@:3}" >/dev/null 2>&1; do
        if ((SECONDS >= end)); then
            local said
            said=$(cat "$folder/$2.log" "$folder/$2.out" 2>/dev/null | grep -iE 'fatal|error' | tail -n 1 || true)
            [[ $fresh == no ]] || "$here/stop.sh" "$folder" || true
            fail "$2 did not come up in $1 s: ${said:-it said nothing} (logs in $folder)"
        fi
        sleep .1
    done
}

if ! running munged; then # its own, so that nothing of the machine's is touched; --force: as root
    [[ -s $folder/munge.key ]] || (umask 077 && head -c 1024 /dev/urandom >"$folder/munge.key")
    daemon munged munged --force --num-threads=4 --socket="$folder/munge.socket" --key-file="$folder/munge.key" \
        --pid-file="$folder/munged.pid" --log-file="$folder/munged.log" --seed-file="$folder/munged.seed"
    await 300 munged munge --no-input --socket="$folder/munge.socket"
fi
if [[ $accounting == yes ]] && ! running slurmdbd; then
    database=(mariadbd --no-defaults --user=root --datadir="$folder/database")
    if [[ ! -e $folder/database/made ]]; then # a crash may have left half of it
        rm -rf "$folder/database"
        mkdir "$folder/database"
        (printf 'CREATE DATABASE mysql;\nUSE mysql;\n' && cat /usr/share/mysql/mysql_system_tables.sql) |
            "${database[@]}" --bootstrap >"$folder/bootstrap.out" 2>&1 ||
            fail "mariadbd did not make its tables: $(tail -n 1 "$folder/bootstrap.out") (logs in $folder)"
        touch "$folder/database/made"
    fi
    end_daemon mariadbd
    daemon mariadbd "${database[@]}" --socket="$folder/database.socket" --pid-file="$folder/mariadbd.pid" \
        --skip-networking --skip-grant-tables --innodb-buffer-pool-size=32M --innodb-lock-wait-timeout=900 \
        --innodb-flush-log-at-trx-commit=0
    await 300 mariadbd test -S "$folder/database.socket"
    (umask 077 && cat >"$folder/slurmdbd.conf") <<END
DbdHost=localhost
DbdPort=$((port + 3))
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
PidFile=$folder/slurmdbd.pid
LogFile=$folder/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct_db
END
    MYSQL_UNIX_PORT=$folder/database.socket daemon slurmdbd slurmdbd
    await 300 slurmdbd bash -c "exec 3<>/dev/tcp/127.0.0.1/$((port + 3))"
fi
# -i: the first time there is no state to read
running slurmctld || daemon slurmctld slurmctld -i
await 300 slurmctld scontrol ping
if [[ $fresh == yes ]]; then # else a node of the last time is taken for a live one, and waited for a minute long
    scontrol update nodename=n1,n2 state=down reason="start.sh" || true
fi
for node in n1 n2; do
    running "slurmd-$node" || daemon "slurmd-$node" slurmd -N "$node"
done
for node in n1 n2; do # neither down, unknown nor waited for
    await 300 "slurmd-$node" bash -c "[[ \$(sinfo -h -p main -n $node -o %T) =~ ^(idle|mixed|allocated|completing)\$ ]]"
done

# The packages bring a sacct, useless without accounting. The PATH of who submits, and of jobs, goes round it.
round=()
if [[ $accounting == no ]]; then
    IFS=: read -ra directories <<<"$PATH"
    for directory in "${directories[@]}"; do
        if [[ -e $directory/sacct ]]; then
            copy=$folder/without-sacct$directory
            rm -rf "$copy"
            mkdir -p "$copy"
            find -H "$directory" -mindepth 1 -maxdepth 1 ! -name sacct -exec ln -s -t "$copy" {} +
            round+=("PATH=\${PATH//:${directory//\//\\/}:/:${copy//\//\\/}:}")
        fi
    done
fi
if [[ $stand_in == yes ]]; then # done means a state that submitit calls so; a job that is being preempted is not
    cat >"$folder/bin/sacct" <<'END'
#!/bin/sh
ids=; while [ $# -gt 0 ]; do [ "$1" = -j ] && { ids="$ids${ids:+,}$2"; shift; }; shift; done
echo "JobID|State|NodeList"
squeue -h -a -r -t all -o '%i|%T|%N' ${ids:+-j "$ids"} 2>/dev/null | sed -E '
    s/\|(SIGNALING|CONFIGURING|RESIZING|STAGE_OUT|STOPPED|SUSPENDED)\|/|RUNNING|/
    s/\|(REQUEUE_HOLD|REQUEUE_FED|SPECIAL_EXIT|RESV_DEL_HOLD)\|/|PENDING|/'
END
    chmod +x "$folder/bin/sacct"
else
    rm -f "$folder/bin/sacct"
fi
{
    echo "export SLURM_CONF=$folder/slurm.conf"
    echo "PATH=:$folder/bin:\$PATH:"
    ((${#round[@]} == 0)) || printf '%s\n' "${round[@]}"
    echo "PATH=\${PATH#:} PATH=\${PATH%:}"
} >"$folder/env.new"
mv "$folder/env.new" "$folder/env"
with=$([[ $accounting == yes ]] && echo with || echo without)
cat <<END
SLURM is up in $folder: nodes n1 and n2, partitions main and high, $with accounting
  use it:  source $folder/env && sinfo
  end it:  $here/stop.sh $folder
END
