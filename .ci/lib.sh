# Shared by the scripts of this folder; sourced, never run.

say() { printf '\n== [%s] %s\n' "$(date +%H:%M:%S)" "$*"; }

# git refuses a checkout that belongs to another user, which is common in containers.
git_here() {
  GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*' git "$@"
}

clone_head() {
  git_here clone --quiet --no-hardlinks "file://$PWD" "$1"
  git -C "$1" checkout --quiet "$(git_here rev-parse HEAD)"
}

install_debian() {
  local root=()
  [ "$(id -u)" = 0 ] || root=(sudo)
  say "apt-get install $*"
  "${root[@]}" apt-get update -qq </dev/null
  DEBIAN_FRONTEND=noninteractive "${root[@]}" apt-get install -y -qq --no-install-recommends "$@" </dev/null >/dev/null
}

need_chromium() {
  for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null; then
      say "browser: $("$name" --version 2>/dev/null || echo "$name")"
      return
    fi
  done
  install_debian chromium fonts-dejavu-core
}

need_venv() {
  "${PYTHON:-python3}" -c 'import ensurepip, venv' 2>/dev/null || install_debian python3-venv
}
