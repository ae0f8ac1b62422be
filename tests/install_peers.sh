#!/bin/sh
# Installs the servers that the tests talk to, from Debian's packages, without starting any of them as a service.
# Usage: tests/install_peers.sh [venv]
set -eu
if [ "${1:-}" = venv ]; then
  packages="python3-venv"
else
  packages="bind9 bind9-dnsutils curl dovecot-core git gnupg gpgv gsasl knot libmail-dkim-perl msmtp node-nodemailer opendkim opendkim-tools openssh-client openssh-server openssl pdns-backend-sqlite3 pdns-server postfix redis-server swaks"
fi
missing=""
for package in $packages; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
command="apt-get install -y --no-install-recommends$missing"
if [ "$(id -u)" -ne 0 ]; then
  echo "These packages are missing; install them with:  sudo $command" >&2
  exit 1
fi
echo "installing:$missing"
# RUNLEVEL=1 keeps the packages from starting their services: the tests start what they need, on ports of their own.
export RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive
apt-get update -q >/dev/null
# shellcheck disable=SC2086 # a list of words
$command >/dev/null
