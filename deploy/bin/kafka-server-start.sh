#!/usr/bin/env bash
# kafka-server-start.sh [-daemon] server.properties [--override property=value]...
run=$(dirname "$(readlink -f "$0")")/millrace-run
if [[ ${1-} == -daemon ]]; then
  shift
  mkdir -p "${LOG_DIR:-logs}"
  nohup "$run" start "$@" >"${LOG_DIR:-logs}/kafkaServer.out" 2>&1 </dev/null &
  exit 0
fi
exec "$run" start "$@"
