#!/usr/bin/env bash
# kafka-server-stop.sh [--process-role=broker|controller] [--node-id=N]
# Asks the brokers of this user on this machine to hand over and end (SIGTERM). A broker's role and
# number are read from the properties file it was started with.
role="" node=""
for argument in "$@"; do
  case $argument in
    --process-role=*) role=${argument#*=} ;;
    --node-id=*) node=${argument#*=} ;;
    *)
      echo "kafka-server-stop.sh: unknown argument '$argument'; known are --process-role= and --node-id=" >&2
      exit 1
      ;;
  esac
done

# Whether the properties file of process $1 has a line "$2=" whose value holds the word $3.
says() {
  local words file=""
  mapfile -d '' -t words <"/proc/$1/cmdline"
  for word in "${words[@]:2}"; do if [[ $word == *.properties ]]; then file=$word; fi; done
  [[ $file == /* ]] || file=$(readlink "/proc/$1/cwd")/$file
  grep -Eq "^[[:space:]]*$2[[:space:]]*=([^#]*[,[:space:]])?$3([,[:space:]]|\$)" "$file" 2>/dev/null
}

found=""
for pid in $(pgrep -u "$(id -u)" -x millrace); do
  mapfile -d '' -t words <"/proc/$pid/cmdline" 2>/dev/null || continue
  [[ ${words[1]-} == start ]] || continue
  [[ -z $role ]] || says "$pid" process.roles "$role" || continue
  [[ -z $node ]] || says "$pid" node.id "$node" || continue
  kill -TERM "$pid" && found=yes
done
if [[ -z $found ]]; then
  echo "No kafka server to stop" >&2
  exit 1
fi
