#!/bin/sh
# Installs one .NET tool as an MCP server, inside an image build, as root:
#
#     sh /usr/local/lib/mooring/install.sh <package> <version> [<NuGet source>]
#
# `/app/server` becomes a link to the tool's command. A source that is given is the only one. Every
# failure ends in one line, `mooring-install: <code>: <sentence>`.
set -u
name=$1
version=$2
source=${3:-https://api.nuget.org/v3/index.json}

fail() {
  echo "mooring-install: $1: $2" >&2
  exit 1
}

temporary=$(mktemp -d) || fail other "There is no room for temporary files"
export HOME="$temporary" NUGET_PACKAGES="$temporary/packages"
if [ -n "${NODE_EXTRA_CA_CERTS:-}" ]; then
  cat /etc/ssl/certs/ca-certificates.crt "$NODE_EXTRA_CA_CERTS" >"$temporary/ca.pem"
  export SSL_CERT_FILE="$temporary/ca.pem"
fi
escaped=$(printf %s "$source" | sed 's/&/\&amp;/g; s/"/\&quot;/g; s/</\&lt;/g')
cat >"$temporary/NuGet.Config" <<XML
<configuration>
  <packageSources>
    <clear />
    <add key="source" value="$escaped" allowInsecureConnections="true" />
  </packageSources>
</configuration>
XML
dotnet tool install "$name" --version "$version" --tool-path /app/tools \
  --configfile "$temporary/NuGet.Config" >"$temporary/said" 2>&1
status=$?
cat "$temporary/said" >&2
if [ "$status" -ne 0 ]; then
  said=$(sed -n '/error/p' "$temporary/said" | tr '\n\r' '  ' | cut -c 1-600)
  case $said in
    *NU1102*) fail version-not-found "NuGet has no version $name@$version" ;;
    *NU1101* | *"is not found in NuGet feeds"*) fail package-not-found "NuGet has no package $name, or it is private" ;;
    *NU1212* | *"DotnetToolReference"* | *"not a .NET tool"* | *"tool's NuGet package is invalid"*)
      fail not-a-tool "$name@$version is not a .NET tool, so there is nothing to run"
      ;;
    *PartialChain* | *UntrustedRoot* | *"certificate"*)
      fail untrusted-certificate "NuGet's TLS certificate is not trusted; name a proxy's CA file (PEM) in NODE_EXTRA_CA_CERTS"
      ;;
    *NU1301* | *"Unable to load the service index"*) fail network "NuGet cannot be reached from this build" ;;
    *) fail other "dotnet failed: $said" ;;
  esac
fi
for command in /app/tools/*; do
  [ -f "$command" ] && [ -x "$command" ] && break
  command=
done
[ -n "$command" ] || fail no-bin "$name@$version has no command, so there is nothing to run"
ln -s "tools/${command##*/}" /app/server
rm -rf "$temporary"
# One version makes one layer, whenever it is built.
find /app -exec touch -h -d @315532800 {} +
