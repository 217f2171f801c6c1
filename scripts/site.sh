#!/bin/sh
# Builds the site of site/ and docs/ into DIR/site; what is generated from code
# and from the history goes to DIR/site-generated first.
#
#   scripts/site.sh DIR HUGO DOUGONG [build|serve]
#
# SITE_REPOSITORY and SITE_URL, if set, are where the repository and the site
# itself can be found; SITE_ADDRESS is where 'serve' listens.
set -eu

dir=$1 hugo=$2 dougong=$3 what=${4:-build}
generated=$dir/site-generated
rm -rf "$generated"
mkdir -p "$generated/docs/commands" "$generated/data"
"$dougong" man --markdown "$generated/docs/commands"
go run -tags no_grpc ./hack/contributors >"$generated/data/contributors.json"

export HUGO_PARAMS_REPOSITORY="${SITE_REPOSITORY-}" HUGO_PARAMS_ORIGIN="${SITE_URL-}"
destination=$(cd "$dir" && pwd)/site
case $what in
build)
    # A page that was taken away must not stay.
    rm -rf "$destination"
    "$hugo" --source site --destination "$destination" --noBuildLock --panicOnWarning --quiet
    echo "the site is in $destination: open index.html there, or 'make site-serve'"
    ;;
serve)
    address=${SITE_ADDRESS:-127.0.0.1:1313}
    exec "$hugo" server --source site --noBuildLock --disableFastRender --bind "${address%:*}" --port "${address##*:}" \
        --baseURL "http://$address/" --appendPort=false --destination "$destination"
    ;;
*)
    echo "site: unknown: $what" >&2
    exit 2
    ;;
esac
