#!/bin/bash
# Start a real, private Slurm cluster on loopback: virtual nodes n1..nN on this one machine, with
# accounting (sacct). Safe to call again: what runs stays, what died is started anew, jobs are kept.
# Needs root on Debian 12, slurm.conf.in beside it; apt-get on the first run only. Prints the path
# of the conf; a second cluster (other SLURM_LOCAL, SLURM_LOCAL_PORT) needs it in SLURM_CONF.
# Exit: 0 ready, 1 a daemon did not start (the tail of its log on stderr), 2 the install failed.
BASE=${SLURM_LOCAL:-${TMPDIR:-/tmp}/slurm-local}    # conf, state, logs, sockets: absolute, short, local disk
PORT=${SLURM_LOCAL_PORT:-6817}           # controller PORT, accounting PORT+2, nodes PORT+11...
NODES=${SLURM_LOCAL_NODES:-2}            # the rest is per node, and pretended: Slurm only counts it
CPUS=${SLURM_LOCAL_CPUS:-4} MEM=${SLURM_LOCAL_MEM:-8000} GPUS=${SLURM_LOCAL_GPUS:-2}
set -u; umask 022; run=$BASE/run log=$BASE/log
export SLURM_CONF=$BASE/slurm.conf SLURM_LOCAL_DAEMON=$BASE MYSQL_UNIX_PORT=$BASE/db/db.sock PATH=$PATH:/usr/sbin
die() { echo "start.sh: $1" >&2; [ -f "${2-}" ] && tail -n 15 "$2" >&2; exit "${3:-1}"; }
[ "$(id -u)" = 0 ] || die "needs root"
# Told to keep to loopback (NoInAddrAny), Slurm, srun too, binds to the address of the host's name.
[ "$(getent ahostsv4 "$(hostname)" | awk '{print $1; exit}')" = 127.0.0.1 ] ||
  die "the name $(hostname) is not 127.0.0.1: put '127.0.0.1 $(hostname)' first in /etc/hosts"
mkdir -p "$run" "$log" "$BASE"/{state,spool,db,gpu} || die "cannot write $BASE"
chmod 700 "$BASE/db"; exec 9>"$run/lock"; flock -w 60 9 || die "another start or stop holds $run/lock"

# 1. Packages: 16, nothing upgraded. mariadb-server-core, the bare server, is enough for slurmdbd.
want="slurmctld slurmd slurm-client munge slurmdbd mariadb-server-core"
have() { for p in $want; do dpkg-query -W -f '${Status}\n' "$p" 2>&1 | grep -qx 'install ok installed' || return; done; }
# shellcheck disable=SC2086 # a list of packages
have || { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $want
} </dev/null >"$log/apt.log" 2>&1 9>&- || die "apt-get failed" "$log/apt.log" 2

# 2. Configuration, written anew on each call. Links to /dev/null stand for the GPU devices.
[ -s "$BASE/munge.key" ] || (umask 077; head -c 128 /dev/urandom >"$BASE/munge.key")
gres=; : >"$BASE/gres.conf"
for ((i = 0; i < GPUS; i++)); do ln -sfn /dev/null "$BASE/gpu/gpu$i"; gres="Gres=gpu:$GPUS"; done
[ -z "$gres" ] || echo "Name=gpu File=$BASE/gpu/gpu[0-$((GPUS - 1))]" >"$BASE/gres.conf"
sed "s|@BASE@|$BASE|; s|@PORT@|$PORT|; s|@DBDPORT@|$((PORT + 2))|; s|@MEMPERCPU@|$((MEM / CPUS))|" \
  "$(dirname "$0")/slurm.conf.in" >"$SLURM_CONF" || die "no slurm.conf.in beside $0"
for ((i = 1; i <= NODES; i++)); do
  echo "NodeName=n$i NodeHostname=localhost NodeAddr=127.0.0.1 Port=$((PORT + 10 + i)) CPUs=$CPUS RealMemory=$MEM $gres"
done >>"$SLURM_CONF"
# So that commands find it without SLURM_CONF; without either they ask DNS. The first cluster has it.
mkdir -p /etc/slurm; [ -e /etc/slurm/slurm.conf ] || ln -sfn "$SLURM_CONF" /etc/slurm/slurm.conf
cat >"$BASE/slurmdbd.conf" <<END
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=$((PORT + 2))
CommunicationParameters=NoInAddrAny
AuthInfo=socket=$run/munge.sock
SlurmUser=root
PidFile=$run/slurmdbd.pid
LogFile=$log/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm
END
chmod 600 "$BASE/slurmdbd.conf"

# 3. The daemons, each up and answering before the next
alive() { # NAME: the pid in its file is a live process (a zombie has no environ) that bears our mark
  local p; p=$(cat "$run/$1.pid" 2>/dev/null) && [ -n "$p" ] &&
    grep -qzx "SLURM_LOCAL_DAEMON=$BASE" "/proc/$p/environ" 2>/dev/null
}
up() { # NAME TEST COMMAND...: start it unless it lives, then wait until it lives and TEST holds
  local name=$1 test=$2 end=$((SECONDS + 15)); shift 2
  alive "$name" || { setsid "$@" </dev/null >>"$log/$name.log" 2>&1 9>&- & }   # 9: not the lock
  while ((SECONDS < end)); do alive "$name" && timeout 5 bash -c "$test" >/dev/null 2>&1 && return; sleep .1; done
  die "$name is not up after 15 s" "$log/$name.log"
}
up munged "munge -n -S $run/munge.sock" munged --origin=127.0.0.1 --key-file="$BASE/munge.key" \
  --socket="$run/munge.sock" --pid-file="$run/munged.pid" --seed-file="$run/munge.seed" --log-file="$log/munged.log"
# No network, and no privilege tables: whoever reaches the socket is let in, so its folder is root's.
up mariadbd "[ -S $MYSQL_UNIX_PORT ]" mariadbd --no-defaults --user=root --datadir="$BASE/db" \
  --socket="$MYSQL_UNIX_PORT" --pid-file="$run/mariadbd.pid" --skip-networking --skip-grant-tables \
  --innodb-lock-wait-timeout=900 --innodb-log-file-size=16M
up slurmdbd "sacctmgr -n list cluster" slurmdbd
sacctmgr -n list cluster advunlearn | grep -q advunlearn || sacctmgr -i add cluster advunlearn >/dev/null || die "sacctmgr failed"
up slurmctld "scontrol ping | grep UP" slurmctld
for ((i = 1; i <= NODES; i++)); do up "slurmd-n$i" true slurmd -N "n$i"; done
for ((end = SECONDS + 15; SECONDS < end;)); do   # ready: every node idle or at work
  [ "$(sinfo -h -N -p main -t idle,mixed,allocated -o %N 2>/dev/null | wc -l)" = "$NODES" ] && { echo "$SLURM_CONF"; exit 0; }
  sleep .1
done
sinfo -N -R >&2; die "nodes are not ready after 15 s" "$log/slurmctld.log"
