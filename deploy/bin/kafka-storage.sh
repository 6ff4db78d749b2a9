#!/usr/bin/env bash
# kafka-storage.sh format|random-uuid ...
case ${1-} in
  format | random-uuid | --help | -h | --version) exec "$(dirname "$(readlink -f "$0")")/millrace-run" "$@" ;;
  *)
    echo "kafka-storage.sh: known commands are format and random-uuid; '${1-}' is none of them" >&2
    exit 1
    ;;
esac
