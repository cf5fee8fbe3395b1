#!/bin/sh
# Sets a node up at its first start, then serves. For trying the system out: in
# production an operator makes each join token and hands it over by hand.
#
#   entrypoint registry             make root and keys, leave tokens in $JOIN_DIR, serve
#   entrypoint city CODE            join with the token in $JOIN_DIR, serve
#   entrypoint auditor NAME         join into the data folder with the token in $JOIN_DIR, and end
#   entrypoint COMMAND ...          anything else is run as it is
#
# Environment: DATA_DIR, JOIN_DIR, LISTEN, ADVERTISE, METRICS; the registry also
# TRUST_DOMAIN, CITIES (division codes) and AUDITORS (names); nodes DATABASE_URL.
set -eu
umask 077
DATA_DIR=${DATA_DIR:-/var/lib/elicense}
JOIN_DIR=${JOIN_DIR:-/join}

# A token is complete once it has its final name.
make_token() {
    elicense-registry token "$@" --config "$DATA_DIR/config.toml" >"$JOIN_DIR/$2.part"
    mv "$JOIN_DIR/$2.part" "$JOIN_DIR/$2.token"
}

await_token() {
    until [ -s "$JOIN_DIR/$1.token" ]; do sleep 1; done
    cat "$JOIN_DIR/$1.token"
}

role=${1:-}
case "$role" in
registry)
    if [ ! -e "$DATA_DIR/config.toml" ]; then
        elicense-registry init --data "$DATA_DIR" --trust-domain "$TRUST_DOMAIN" --listen "$LISTEN" \
            --advertise "$ADVERTISE" --database "$DATABASE_URL" --metrics "$METRICS"
        for code in $CITIES; do make_token city "$code"; done
        for name in $AUDITORS; do make_token auditor "$name"; done
    fi
    exec elicense-registry serve --config "$DATA_DIR/config.toml"
    ;;
city)
    if [ ! -e "$DATA_DIR/config.toml" ]; then
        elicense-city join "$(await_token "$2")" --data "$DATA_DIR" --listen "$LISTEN" \
            --advertise "$ADVERTISE" --database "$DATABASE_URL" --metrics "$METRICS"
    fi
    exec elicense-city serve --config "$DATA_DIR/config.toml"
    ;;
auditor)
    [ -e "$DATA_DIR/key.pem" ] || elicense join "$(await_token "$2")" --into "$DATA_DIR"
    ;;
*)
    exec "$@"
    ;;
esac
