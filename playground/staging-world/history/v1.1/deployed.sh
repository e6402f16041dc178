#!/bin/sh
# deployed.sh FUNCTION: prints the commit that FUNCTION is deployed from.
set -eu
cd "$(dirname "$0")"
file=../deployed/${1:?usage: deployed.sh FUNCTION}.js
[ -f "$file" ] || {
  echo "deployed.sh: $1 is not deployed" >&2
  exit 1
}
sed -n '1s|^// deployed from ||p' "$file"
