#!/bin/bash
# build.sh: what a release consists of, into dist/: a static binary for each
# architecture, SHA256SUMS for them, and rpm and deb of each.
#   packaging/build.sh [--no-packages] [VERSION]
# Without VERSION it is 0.0.0 and the commit. Needs Go; the first run fetches nfpm.
set -eu
cd "$(dirname "$0")/.."
packages=yes
[[ ${1-} != --no-packages ]] || { packages=; shift; }
VERSION=${1:-0.0.0+$(git rev-parse --short=12 HEAD)}
export VERSION

rm -rf dist
mkdir dist
for ARCH in amd64 arm64; do
    CGO_ENABLED=0 GOOS=linux GOARCH=$ARCH go build -trimpath -ldflags "-s -w -X beanstalk-agent/agent/internal/buildinfo.release=$VERSION" -o dist/agent-linux-$ARCH ./agent
    # a program that asks for a loader would depend on the instance's C library
    ! head -c 4096 dist/agent-linux-$ARCH | grep -qa /lib.*/ld- || { echo "agent-linux-$ARCH is not static" >&2; exit 1; }
done
(cd dist && sha256sum agent-linux-* >SHA256SUMS)
if [[ $packages ]]; then
    for ARCH in amd64 arm64; do
        export ARCH
        for kind in rpm deb; do go -C packaging/nfpm tool nfpm package -f nfpm.yaml -p $kind -t ../../dist/; done
    done
fi
ls -l dist
echo "for agent.config: from='https://…#$(sha256sum dist/SHA256SUMS | cut -c1-64)'"
