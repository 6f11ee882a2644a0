#!/usr/bin/env bash
# A SLURM of one node, this one, to try job arrays on a test machine or in a container.
#
#   apt-get install slurm-wlm                       Debian, Ubuntu; munge comes with it
#   ./tests/slurm_one_node.sh start               prints the line that makes sbatch find it
#   export SLURM_CONF=/tmp/slurm_one_node/slurm.conf
#   sinfo
#   ./tests/slurm_one_node.sh stop
#
# Nothing is written outside its folder ($SLURM_ONE_NODE, by default /tmp/slurm_one_node), and no
# system service is touched: munge, which signs what SLURM's parts say to each other, has a key and
# a socket of its own there. Neither cgroups nor an accounting data base are used, so memory is not
# held to what a job asked for. For real work follow SLURM's own guide.
set -euo pipefail

folder=${SLURM_ONE_NODE:-/tmp/slurm_one_node}
export SLURM_CONF=$folder/slurm.conf
name=$(hostname -s)
user=$(id -un)
# Debian has the daemons in sbin, which is not on everybody's PATH.
PATH=$PATH:/usr/sbin:/sbin

fail() {
    echo "error: $*" >&2
    exit 1
}

alive() { # NAME: whether the daemon of $folder/NAME.pid is running
    [ -s "$folder/$1.pid" ] && kill -0 "$(cat "$folder/$1.pid")" 2>/dev/null
}

configure() {
    mkdir -p "$folder/state" "$folder/spool"
    chmod 755 "$folder" # munge insists that nobody else may write here
    if [ ! -s "$folder/munge.key" ]; then
        (umask 077 && head -c 1024 /dev/urandom >"$folder/munge.key")
    fi
    # Two ports that SLURM does not use by itself, so that another one here is left in peace.
    cat >"$SLURM_CONF" <<CONF
ClusterName=one_node
SlurmctldHost=$name(127.0.0.1)
SlurmctldPort=${SLURM_ONE_NODE_PORT:-16817}
SlurmdPort=$((${SLURM_ONE_NODE_PORT:-16817} + 1))
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
# Processes of a job are found by their group and not held to cores: containers have no cgroups.
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=5,sched_min_interval=500000
ReturnToService=2
InactiveLimit=0
KillWait=2
MinJobAge=300
NodeName=$name NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=$name Default=YES MaxTime=INFINITE State=UP
CONF
}

start() {
    local command waited=0
    for command in munged slurmctld slurmd sinfo; do
        command -v "$command" >/dev/null || fail "no $command here; apt-get install slurm-wlm"
    done
    configure
    alive munged || munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" \
        --pid-file="$folder/munged.pid" --log-file="$folder/munged.log" \
        --seed-file="$folder/munge.seed"
    alive slurmctld || slurmctld -f "$SLURM_CONF"
    alive slurmd || slurmd -f "$SLURM_CONF"
    until sinfo --noheader --format=%T 2>/dev/null | grep -qE 'idle|mixed|allocated'; do
        waited=$((waited + 1))
        [ "$waited" -le 60 ] || fail "the node does not come up; see $folder/*.log"
        sleep 1
    done
    echo "export SLURM_CONF=$SLURM_CONF"
}

stop() {
    local daemon pid waited job
    # Jobs first: what watches over a job stays behind when it cannot say that the job has ended.
    if alive slurmctld; then
        for job in $(squeue --noheader --format=%A | sort -u); do
            scancel "$job" || true # it may have ended just now
        done
        for waited in $(seq 30); do
            [ -n "$(squeue --noheader)" ] || break
            sleep 1
        done
    fi
    for daemon in slurmd slurmctld munged; do
        alive "$daemon" || continue
        pid=$(cat "$folder/$daemon.pid")
        kill "$pid"
        for waited in $(seq 30); do
            kill -0 "$pid" 2>/dev/null || break
            [ "$waited" -lt 30 ] || kill -9 "$pid"
            sleep 0.5
        done
        rm -f "$folder/$daemon.pid"
    done
}

case ${1:-} in
start) start ;;
stop) stop ;;
status) sinfo ;;
*) fail "usage: $0 start|stop|status" ;;
esac
