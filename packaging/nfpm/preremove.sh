#!/bin/sh
# At an upgrade (rpm: 1 or more are left; deb: "upgrade") nothing is to be stopped.
case ${1:-0} in
    0 | remove) /opt/agent/bin/agent uninstall --keep-data --keep-binary || : ;;
esac
exit 0
