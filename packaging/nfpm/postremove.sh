#!/bin/sh
# Configuration and state stay until a deb is purged; rpm knows no such step.
[ "${1:-}" != purge ] || rm -rf /etc/agent /var/lib/agent
exit 0
