#!/bin/sh
# Installs the servers that the tests talk to, from Debian's packages, without starting any of them as a service.
# Usage: tests/install_peers.sh [venv]
set -eu
if [ "${1:-}" = venv ]; then
  packages="python3-venv"
else
  packages="bind9 bind9-dnsutils curl dovecot-core git gnupg gpgv gsasl knot libmail-dkim-perl msmtp node-nodemailer opendkim opendkim-tools openssh-client openssh-server openssl pdns-backend-sqlite3 pdns-server postfix redis-server swaks systemd"
fi
# mailauth, a verifier of DKIM, comes from npm, without the scripts that packages may bring. It asks for Node 22; what is
# used of it works with the 18 of Debian 12.
install_mailauth() {
  peers="${XDG_CACHE_HOME:-$HOME/.cache}/ptt-peers"
  [ "$packages" = python3-venv ] || [ -d "$peers/node_modules/mailauth" ] ||
    npm install --prefix "$peers" --no-save --no-package-lock --no-audit --no-fund --ignore-scripts mailauth@7.1.0 >/dev/null
}
command -v node >/dev/null || packages="$packages nodejs"
command -v npm >/dev/null || packages="$packages npm"
missing=""
for package in $packages; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
[ -n "$missing" ] || { install_mailauth; exit; }
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
install_mailauth
