#!/bin/sh
# deploy.sh FUNCTION REF: serves FUNCTION as it was at REF, which is a tag, a branch or a commit.
set -eu
cd "$(dirname "$0")"
name=${1:?usage: deploy.sh FUNCTION REF}
ref=${2:?usage: deploy.sh FUNCTION REF}

commit=$(git rev-parse --verify --quiet "$ref^{commit}") || {
  echo "deploy.sh: there is no commit $ref" >&2
  exit 2
}
git cat-file -e "$commit:functions/$name.js" 2>/dev/null || {
  echo "deploy.sh: $ref has no function $name" >&2
  exit 3
}

mkdir -p ../deployed
draft=../deployed/.$name.$$
trap 'rm -f "$draft"' EXIT
echo "// deployed from $commit" >"$draft"
git show "$commit:functions/$name.js" >>"$draft"
# A rename replaces the function in one go: no request ever meets half a file.
mv -f "$draft" "../deployed/$name.js"
echo "$name is deployed from $commit ($(git describe --tags --always "$commit"))"
