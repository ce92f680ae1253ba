/** The count of controls that pages show, against the policy that DTMA really makes containers by. */
import assert from "node:assert/strict";
import { containerConfig, POLICY } from "../../dtma/policy.ts";
import { ServerSpec, STDIO } from "../../dtma/protocol.ts";
import { controlsOf, FIXED_CONTROLS } from "../../models/hardening.ts";
import { ServerOptions } from "../../models/server_options.ts";
import { CatalogEntry } from "../../models/catalog_entries.ts";
import { madeEntry } from "./made_entries.ts";

const options = ServerOptions.parse({});
const strict = CatalogEntry.parse({ ...madeEntry("npm"), network: { hosts: [] }, volumes: [] });

function loosened(
  entry: CatalogEntry,
  more: { options?: ServerOptions; openSecrets?: string[]; sandbox?: null } = {},
) {
  const known = { sandbox: { runtime: "runsc", kind: "gvisor" as const } };
  return controlsOf({ entry, options, openSecrets: [], ...known, ...more })
    .filter((control) => control.loosened !== null).map(({ loosened }) => loosened);
}

Deno.test("FIXED_CONTROLS are in force in the policy, whatever a spec asks", () => {
  const spec = ServerSpec.parse({
    serverId: crypto.randomUUID(),
    generation: 1,
    name: "x",
    running: true,
    package: { registry: "oci", image: "docker.io/a/b", digest: `sha256:${"0".repeat(64)}` },
    arguments: [],
    environment: {},
    secrets: { TOKEN: "t" },
    secretFiles: {},
    network: { hosts: ["*:443"] },
    volumes: [{ name: "data", path: "/data" }],
    memoryMiB: 65_536,
    instances: "shared",
    idleStopS: null,
    restart: 0,
    tier: "standard",
    transport: STDIO,
  });
  const { User, Image, HostConfig, ...rest } = containerConfig(spec, {
    toolboxId: crypto.randomUUID(),
    image: { id: "sha256:1", command: ["x"], hasLauncher: false } as never,
    specHash: "x",
    instance: null,
    route: null,
    sandbox: null,
  });
  const host = HostConfig as Record<string, unknown>;
  const checks: boolean[] = [
    Image === "sha256:1",
    User === "65532:65532",
    JSON.stringify(HostConfig.CapDrop) === '["ALL"]' && !("CapAdd" in host),
    HostConfig.SecurityOpt.includes("no-new-privileges"),
    HostConfig.SecurityOpt.some((each) => each.startsWith("seccomp={")),
    HostConfig.ReadonlyRootfs &&
    Object.values(HostConfig.Tmpfs).every((each) => each.includes("noexec")),
    !("Binds" in host) && !("Devices" in host) && !HostConfig.Privileged &&
    HostConfig.Mounts.every(({ Type }) => Type === "volume"),
    !("PortBindings" in host) && !HostConfig.PublishAllPorts && !("ExposedPorts" in rest),
    HostConfig.Memory > 0 && HostConfig.MemorySwap === HostConfig.Memory,
    HostConfig.NanoCpus === 1e9,
    HostConfig.PidsLimit === 128 && POLICY.openFiles === 1024,
    HostConfig.IpcMode === "private" && HostConfig.CgroupnsMode === "private" &&
    !("PidMode" in host),
  ];
  assert.equal(checks.length, FIXED_CONTROLS.length);
  assert.deepEqual(FIXED_CONTROLS.filter((_, at) => !checks[at]), []);
});

Deno.test("controlsOf counts all for a server that asks for nothing", () => {
  assert.deepEqual(loosened(strict), []);
  assert.equal(
    controlsOf({ entry: strict, options, openSecrets: [], sandbox: null }).length,
    FIXED_CONTROLS.length + 7,
  );
});

Deno.test("controlsOf says what loosens each control", () => {
  assert.deepEqual(
    loosened(strict, { options: { ...options, hosts: ["*.example.com:443"] } }),
    [
      "It reaches *.example.com:443",
      "*.example.com:443 stands for any number of hosts",
    ],
  );
  assert.deepEqual(loosened({ ...strict, volumes: [{ name: "data", path: "/data" }] }), [
    "It keeps data in a volume at /data",
  ]);
  assert.deepEqual(loosened(strict, { openSecrets: ["API token"] }), ["It is given API token"]);
  assert.deepEqual(loosened(strict, { sandbox: null }), ["It is on the toolbox's own kernel"]);
  assert.deepEqual(loosened({ ...strict, package: madeEntry("npm-scripts").package }), [
    "Its packages run install scripts",
  ]);
  const remote = { registry: "remote" as const, url: "https://mcp.example.com/mcp" };
  assert.deepEqual(loosened({ ...strict, package: remote }), [
    "It reaches the host of its URL",
    "The server itself runs elsewhere, as whoever runs it likes",
  ]);
});
