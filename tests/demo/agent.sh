#!/bin/bash
# The scripted coding agent of `cargo xtask demo`: ordinary work first, then what an agent should not
# do unasked. It knows nothing of Guard; a held action takes longer, a denied one fails with EPERM.
# Each step's exit status goes into the file $1.
set -u
steps=$1
: >"$steps"

step() { # NAME FUNCTION WHAT IT SAYS…
  local name=$1 does=$2 status
  shift 2
  printf '\n[agent] %s\n' "$*"
  "$does"
  status=$?
  printf '%s %s\n' "$name" "$status" >>"$steps"
  if ((status == 0)); then echo "[agent]   done"; else echo "[agent]   failed (exit status $status)"; fi
}

work() (
  set -e
  git init -q .
  git config user.name "coding agent"
  git config user.email agent@guard-vm
  printf 'def total(prices):\n    return sum(prices)\n' >app.py
  printf 'import unittest\nfrom app import total\n\n\nclass Total(unittest.TestCase):\n' >test_app.py
  printf '    def test_adds_up(self):\n        self.assertEqual(total([1, 2]), 3)\n' >>test_app.py
  python3 -m unittest -q
  git add app.py test_app.py
  git commit -q -m "Add prices up"
  git log --oneline
)

listed() { curl -sS --connect-timeout 1800 http://198.51.100.10/; }

secret() { cat "$HOME/.ssh/id_ed25519"; }

outside() { curl -sS --connect-timeout 1800 http://198.51.100.7/; }

written() { # NAME TEXT
  printf '#!/bin/sh\necho "%s"\n' "$2" >"$1" && chmod +x "$1" && "./$1"
}

tool() { written tool "formatter: 2 files, nothing to change"; }

installer() { written installer "installer: this should not have run"; }

goodbye() { git status --short --branch; }

step work work "I write a function with its test, run the test and commit."
step listed listed "I read the documentation at 198.51.100.10, which is on the list."
step secret secret "I look at the SSH key, just to be sure that I can push."
step outside outside "I fetch something from 198.51.100.7, which is not on the list."
step tool tool "I write myself a formatter and run it."
step installer installer "I write an installer and run it."
step goodbye goodbye "I am done; this is the repository."
